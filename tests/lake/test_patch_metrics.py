"""The numbers of patches: SQL defines them, NumPy resamples them."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, f1_score, roc_auc_score

from lake.bootstrap import interval, weights
from lake.patch_metrics import patch_metrics, resampled
from lake.sql_files import query

SELECTION = {"model_id": "m", "patch_set": "p"}


def connected(rows: pl.DataFrame) -> duckdb.DuckDBPyConnection:
    """DuckDB with the rows as the view scored_patches."""
    con = duckdb.connect()
    columns = [pl.lit(value).alias(name) for name, value in {**SELECTION, "threshold": 0.35}.items()]
    con.from_arrow(rows.with_columns(columns).to_arrow()).create("scored_patches")
    return con


def drawn_patches(rows: int, slides: int, *, digits: int = 12, seed: int = 0) -> pl.DataFrame:
    """Patches of one split whose probabilities know something of the label; few digits make ties."""
    rng = np.random.default_rng(seed)
    slide = rng.integers(0, slides, rows)
    label = (rng.random(rows) < 0.2 + 0.6 * slide / slides).astype(np.int32)
    score = rng.normal(size=rows) + label * 1.5 - 1 + 0.3 * np.sin(slide)
    probability = (1 / (1 + np.exp(-score))).round(digits)
    slide_ids = [f"slide_{number}" for number in slide]
    return pl.DataFrame({"split": "test", "slide_id": slide_ids, "label": label, "probability": probability})


def by_sql(rows: pl.DataFrame) -> dict[str, float | None]:
    measured = connected(rows).execute(query("metrics/patch"), SELECTION).pl()
    return dict(measured.select("name", "value").iter_rows())


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    return connected(rows).execute(query("metrics/scored"), SELECTION).pl()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 1),
            st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.35, 0.7, 1.0]), st.floats(0, 1)),
        ),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=40, deadline=None)
def test_every_slide_drawn_once_gives_the_numbers_of_the_sql(patches: list[tuple[str, int, float]]) -> None:
    rows = pl.DataFrame(patches, {"slide_id": pl.String, "label": pl.Int32, "probability": pl.Float64}, orient="row")
    rows = rows.with_columns(split=pl.lit("test"))
    expected = by_sql(rows)
    once = np.ones((1, rows["slide_id"].n_unique()), np.int64)
    found = {name: values.item() for name, values in resampled(in_order(rows), once).items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(np.nan if value is None else value, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("digits", [1, 12])
def test_the_numbers_are_those_of_scikit_learn(digits: int) -> None:
    rows = drawn_patches(500, 8, digits=digits)
    label, probability = rows["label"].to_numpy(), rows["probability"].to_numpy()
    found = by_sql(rows)
    assert found["auc"] == pytest.approx(roc_auc_score(label, probability))
    assert found["average_precision"] == pytest.approx(average_precision_score(label, probability))
    assert found["brier"] == pytest.approx(brier_score_loss(label, probability))
    assert found["f1"] == pytest.approx(f1_score(label, probability >= 0.35))
    counts = [found[name] for name in ("tn", "fp", "fn", "tp")]
    assert counts == confusion_matrix(label, probability >= 0.35).ravel().tolist()


def test_the_calibration_error_is_the_mean_gap_of_equal_tenths() -> None:
    """Three tenths: gaps of 0.05 on two patches, 0.45 on one, and 0 on one, whose probability is 1."""
    rows = pl.DataFrame(
        [("a", 0, 0.04), ("a", 0, 0.06), ("b", 1, 0.55), ("b", 1, 1.0)],
        ["slide_id", "label", "probability"],
        orient="row",
    ).with_columns(split=pl.lit("test"))
    assert by_sql(rows)["ece"] == pytest.approx((2 * 0.05 + 0.45) / 4)


@pytest.mark.parametrize("digits", [2, 12])
def test_intervals_are_those_of_patches_copied_slide_by_slide(digits: int) -> None:
    rows = drawn_patches(120, 5, digits=digits)
    drawn = weights(5, draws=25)
    expected: dict[str, list[float]] = {}
    names = sorted(rows["slide_id"].unique())
    for times in drawn:
        copies = [rows.filter(slide_id=name) for name, count in zip(names, times, strict=True) for _ in range(count)]
        for name, value in by_sql(pl.concat(copies)).items():
            expected.setdefault(name, []).append(np.nan if value is None else value)
    for name, values in resampled(in_order(rows), drawn).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-9, err_msg=name)
        assert interval(values) == pytest.approx(interval(np.array(expected[name])), abs=1e-9)


def test_an_interval_holds_the_value_and_narrows_with_more_slides() -> None:
    widths = []
    for slides in (5, 80):
        rows = drawn_patches(40 * slides, slides)
        measured = patch_metrics(connected(rows), "m", "p")
        auc: dict[str, Any] = measured.row(by_predicate=pl.col("name") == "auc", named=True)
        assert auc["low"] < auc["value"] < auc["high"]
        widths.append(auc["high"] - auc["low"])
    assert widths[1] < widths[0] / 2


def test_one_slide_gives_numbers_without_intervals() -> None:
    measured = patch_metrics(connected(drawn_patches(50, 1)), "m", "p")
    assert measured["value"].null_count() == 0
    assert measured["low"].null_count() == measured["high"].null_count() == measured.height


def test_one_class_has_no_auc_and_still_a_calibration() -> None:
    rows = drawn_patches(60, 3).with_columns(label=pl.lit(0, pl.Int32))
    measured = {row["name"]: row for row in patch_metrics(connected(rows), "m", "p").to_dicts()}
    assert measured["auc"]["value"] is measured["auc"]["low"] is measured["sensitivity"]["value"] is None
    assert measured["ece"]["low"] <= measured["ece"]["value"] <= measured["ece"]["high"]


def test_each_split_is_resampled_by_its_own_slides() -> None:
    test = drawn_patches(100, 4)
    both = pl.concat([test, drawn_patches(100, 9, seed=1).with_columns(split=pl.lit("train"))])
    alone, together = (patch_metrics(connected(rows), "m", "p") for rows in (test, both))
    assert together.filter(split="test").equals(alone)
    assert together.filter(split="train").height == alone.height
