"""The queries of the app whose answers the pages only repeat."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import duckdb
import polars as pl
import pytest
from support import TestLake

from lake import session
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


def test_the_area_under_the_roc_curve_is_the_auc_that_evaluate_stored(full_lake: TestLake) -> None:
    curve = answer(full_lake, "roc_curve", points=100_000)
    stored = full_lake.read("metrics").filter(name="auc")
    assert set(stored["split"]) == set(curve["split"])
    for split, value in stored.select("split", "value").iter_rows():
        corners = curve.filter(split=split).select("false_positive_rate", "sensitivity").rows()
        area = sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in pairwise(corners))
        assert area == pytest.approx(value)


def test_a_thinned_roc_curve_still_ends_at_both_corners(full_lake: TestLake) -> None:
    curve = answer(full_lake, "roc_curve", points=3).filter(split="test")
    rates = curve.select("false_positive_rate", "sensitivity").rows()
    assert (rates[0], rates[-1]) == ((0, 0), (1, 1))
    assert len(rates) < len(answer(full_lake, "roc_curve", points=100_000).filter(split="test"))


def test_reliability_counts_every_labelled_patch_once(full_lake: TestLake) -> None:
    bins = answer(full_lake, "reliability")
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
