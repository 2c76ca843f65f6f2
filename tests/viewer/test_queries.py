"""The queries of the app whose answers the pages only repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_curve
from support import TestLake, asap

from lake import models, session, store
from lake.sql_files import query


@pytest.fixture
def ledger() -> Iterator[duckdb.DuckDBPyConnection]:
    """Tables that worklist.sql reads, empty but for the champion: 64 px at 1 mpp."""
    with duckdb.connect() as con:
        con.execute("create table slides (slide_id text, split text, label text, status text, error text)")
        con.execute("create table current_predictions (slide_id text, patch_set text, probability double)")
        con.execute(
            "create table runs "
            "(slide_id text, stage text, identity text, part int, status text, error text, finished_at int)"
        )
        con.execute("create table settings as select 'champion' as name, 'm' as value")
        con.execute("create table models as select 'm' as model_id, 64 as patch_px, 1.0 as mpp")
        con.execute(
            "create table patch_sets as "
            "from (values ('fine', 64, 1.0), ('coarse', 64, 2.0)) as t (patch_set, patch_px, mpp)"
        )
        yield con


def add(con: duckdb.DuckDBPyConnection, table: str, *rows: tuple[Any, ...]) -> None:
    marks = ", ".join("?" for _ in rows[0])
    con.executemany(f"insert into {table} values ({marks})", rows)


def worklist(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Any]]:
    return {row["slide_id"]: row for row in con.execute(query("app/worklist")).pl().to_dicts()}


def attempt(
    stage: str, patch_set: str, status: str, at: int, *, part: int = 0, error: str | None = None
) -> tuple[Any, ...]:
    return ("s", stage, f'{{"patch_set": "{patch_set}"}}', part, status, error, at)


def test_the_mean_is_of_the_ten_highest_and_no_others(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(ledger, "current_predictions", *[("s", "fine", number / 20) for number in range(20)])
    row = worklist(ledger)["s"]
    assert (row["patches"], row["highest"]) == (20, 0.95)
    assert row["mean_top10"] == pytest.approx(sum(range(10, 20)) / 200)


def test_a_slide_in_several_tilings_is_shown_in_the_one_with_most_patches(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(ledger, "current_predictions", ("s", "region", 0.9), ("s", "fine", 0.1), ("s", "fine", 0.2))
    assert len(ledger.execute(query("app/worklist")).fetchall()) == 1
    assert (worklist(ledger)["s"]["patch_set"], worklist(ledger)["s"]["patches"]) == ("fine", 2)


def test_a_stage_that_failed_on_a_slide_is_its_reason(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(ledger, "runs", ("s", "slides", "{}", 0, "ok", None, 1))
    add(
        ledger,
        "runs",
        attempt("features", "fine", "ok", 3),
        attempt("features", "fine", "failed", 2, part=1, error="no disk"),
    )
    row = worklist(ledger)["s"]
    assert (row["status"], row["reason"]) == ("failed", "features: no disk")


def test_a_failure_that_was_repaired_is_none(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(ledger, "runs", ("s", "slides", "{}", 0, "ok", None, 1))
    add(ledger, "runs", attempt("features", "fine", "failed", 2, error="no disk"), attempt("features", "fine", "ok", 3))
    row = worklist(ledger)["s"]
    assert (row["status"], row["reason"]) == ("not scored", None)


def test_a_failure_of_an_older_file_is_none(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(
        ledger,
        "runs",
        attempt("features", "fine", "failed", 1, error="bad tile"),
        ("s", "slides", "{}", 0, "ok", None, 2),
    )
    assert worklist(ledger)["s"]["status"] == "not scored"


def test_a_failure_in_a_tiling_that_the_champion_cannot_score_is_none(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(
        ledger,
        "runs",
        ("s", "slides", "{}", 0, "ok", None, 1),
        attempt("features", "coarse", "failed", 2, error="no disk"),
    )
    assert worklist(ledger)["s"]["status"] == "not scored"


def test_a_slide_without_tissue_says_so(ledger: duckdb.DuckDBPyConnection) -> None:
    add(ledger, "slides", ("s", "test", None, "ok", None))
    add(ledger, "runs", ("s", "slides", "{}", 0, "ok", None, 1), attempt("patches", "fine", "empty", 2))
    assert worklist(ledger)["s"]["status"] == "no tissue"


def answer(lake: TestLake, name: str, **values: Any) -> pl.DataFrame:
    with session.connect(lake.root, udfs=()) as con:
        return con.execute(query(f"app/{name}"), values).pl()


def of_champion(lake: TestLake, name: str, **values: Any) -> pl.DataFrame:
    return answer(lake, name, model_id=models.champion(lake.root), **values)


def test_the_curves_of_every_model_are_scikit_learns(compared: TestLake) -> None:
    stored = compared.read("metrics").filter(scope="patch", name="auc")
    with session.connect(compared.root, udfs=()) as con:
        scored = con.table("scored_patches").pl()
        for model_id, split, value in stored.select("model_id", "split", "value").iter_rows():
            rows = scored.filter(model_id=model_id, split=split)
            asked = {"model_id": model_id, "points": 1_000_000}
            roc, precision_recall = (
                con.execute(query(f"app/{name}"), asked).pl().filter(split=split)
                for name in ("roc_curve", "precision_recall")
            )

            rates, sensitivities, thresholds = roc_curve(rows["label"], rows["probability"], drop_intermediate=False)
            assert roc["threshold"][0] is None
            assert roc["threshold"][1:].to_list() == pytest.approx(thresholds[1:])
            assert roc["false_positive_rate"].to_list() == pytest.approx(rates)
            assert roc["sensitivity"].to_list() == pytest.approx(sensitivities)
            assert auc(roc["false_positive_rate"], roc["sensitivity"]) == pytest.approx(value)

            # scikit-learn's thresholds rise, and it adds a point of recall 0
            precision, recall, thresholds = precision_recall_curve(rows["label"], rows["probability"])
            assert precision_recall["threshold"].to_list() == pytest.approx(thresholds[::-1])
            assert precision_recall["recall"].to_list() == pytest.approx(recall[:-1][::-1])
            assert precision_recall["precision"].to_list() == pytest.approx(precision[:-1][::-1])
            assert precision_recall["prevalence"].unique().to_list() == pytest.approx([rows["label"].mean()])
    assert stored["model_id"].n_unique() == 3


def test_a_thinned_curve_keeps_its_ends_and_lies_on_the_whole_one(full_lake: TestLake) -> None:
    whole, thin = (of_champion(full_lake, "roc_curve", points=n).filter(split="test") for n in (1_000_000, 3))
    rates = thin.select("false_positive_rate", "sensitivity").rows()
    assert (rates[0], rates[-1]) == ((0, 0), (1, 1))
    assert thin.height < whole.height
    assert set(thin["position"]) <= set(whole["position"])
    narrow = of_champion(full_lake, "precision_recall", points=3).filter(split="test")
    assert (narrow["position"][0], narrow["position"][-1]) == (1, whole["position"][-1])
    assert narrow.height < whole.height - 1


def test_the_champion_is_listed_first_with_what_was_measured_of_it(compared: TestLake) -> None:
    listed = answer(compared, "model_list")
    assert listed["is_champion"].to_list() == [True, False, False]
    assert listed["protocol"].to_list() == ["by_slide", "patch_random", "by_slide"]
    stored = {
        (row["model_id"], row["scope"], row["split"], row["name"]): (row["value"], row["low"], row["high"])
        for row in compared.read("metrics").to_dicts()
    }
    for row in listed.to_dicts():
        for name, where in {
            "validation_auc": ("patch", "validation", "auc"),
            "froc": ("lesion", "test", "froc"),
        }.items():
            shown = (row[name], row[f"{name}_low"], row[f"{name}_high"])
            assert shown == stored.get((row["model_id"], *where), (None, None, None))


def test_reliability_counts_every_labelled_patch_once(full_lake: TestLake) -> None:
    bins = of_champion(full_lake, "reliability")
    counted = dict(bins.group_by("split").agg(pl.col("patches").sum()).iter_rows())
    assert counted == dict(full_lake.read("metrics").filter(name="patches").select("split", "value").iter_rows())
    assert bins.filter(pl.col("mean_probability").sub(pl.col("tenth") / 10 + 0.05).abs() > 0.05 + 1e-9).is_empty()


def hotspots(lake: TestLake, **values: Any) -> pl.DataFrame:
    row = lake.read("predictions").filter(slide_id="tumor_4").row(0, named=True)
    where = {name: row[name] for name in ("slide_id", "model_id", "patch_set")}
    return answer(lake, "hotspots", **{**where, "radius_um": 100.0, "candidates": 1000, "hotspots": 100, **values})


def test_hotspots_are_patches_that_no_higher_one_is_near(full_lake: TestLake) -> None:
    found = hotspots(full_lake)
    assert found["probability"].is_sorted(descending=True)
    assert found["rank"].to_list() == list(range(1, found.height + 1))
    peaks = set(found.select("x", "y").rows())
    scored = full_lake.read("predictions").filter(slide_id="tumor_4").select("x", "y", "probability").rows()
    for x, y, probability in scored:
        rivals = [(-p, v, u) < (-probability, y, x) for u, v, p in scored if (u - x) ** 2 + (v - y) ** 2 < 100**2]
        assert ((x, y) in peaks) == (not any(rivals))


def test_hotspots_are_at_most_as_many_as_asked_for(full_lake: TestLake) -> None:
    assert hotspots(full_lake, hotspots=2).rows() == hotspots(full_lake).head(2).rows()
    assert hotspots(full_lake, candidates=1)["rank"].to_list() == [1]


def test_another_models_predictions_do_not_outdate_a_models_metrics(compared: TestLake) -> None:
    with session.connect(compared.root, udfs=()) as con:
        for model_id in compared.read("models")["model_id"]:
            metrics = con.execute(query("app/model_metrics"), {"model_id": model_id}).pl()
            assert metrics.height
            assert metrics["is_current"].all(), model_id


def test_upkeep_does_not_outdate_metrics_and_new_annotations_do(full_lake: TestLake, slides: Path) -> None:
    full_lake.ok("predict")
    full_lake.ok("optimize")
    assert of_champion(full_lake, "model_metrics")["is_current"].all()
    (slides / "tumor_4.xml").write_text(asap([("Tumor", (256, 128, 384, 256))]))
    full_lake.ok("ingest", "--annotations", str(slides / "tumor_4.xml"))
    assert not of_champion(full_lake, "model_metrics")["is_current"].any()


def test_the_score_of_every_slide_stands_beside_what_the_slide_is(full_lake: TestLake) -> None:
    scores = of_champion(full_lake, "slide_score_list")
    assert scores.height == full_lake.read("slide_scores").height
    assert all(row["label"] == row["slide_id"].partition("_")[0] for row in scores.to_dicts())


def test_a_units_change_is_told_by_its_input(full_lake: TestLake) -> None:
    asked = {"table_name": "predictions", "from_version": 0, "to_version": full_lake.versions()["predictions"]}
    made = answer(full_lake, "unit_changes", **asked)
    counts = full_lake.read("predictions").group_by("slide_id").len().sort("slide_id").rows()
    assert made.select("slide_id", "rows_after").rows() == counts
    assert made["change"].unique().to_list() == ["added"]
    [(slide_id, identity, part)] = made.select("slide_id", "identity", "part").rows()[:1]
    for fingerprint, expected in ((made["fingerprint_after"][0], "written again"), ("x", "made of another input")):
        again = store.Entry(
            "later", "predictions", slide_id, identity, part, fingerprint, "ok", 7, 0, None, 0.0, "{}", "{}"
        )
        newest = full_lake.versions()["predictions"] + 1
        store.record(full_lake.root, [dataclasses.replace(again, table_version=newest)])
        asked = {"table_name": "predictions", "from_version": newest - 1, "to_version": newest}
        with session.connect(full_lake.root, udfs=(), at={"predictions": newest - 1}) as con:
            [row] = con.execute(query("app/unit_changes"), asked).pl().to_dicts()
        assert (row["change"], row["rows_before"], row["rows_after"]) == (expected, counts[0][1], 7)
