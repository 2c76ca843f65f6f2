"""The queries of the app whose answers the pages only repeat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from support import TestLake

from lake import session, store
from lake.lesions import Peaks
from lake.sql_files import query
from lake.tables import TABLES

FINE, COARSE = "fine", "coarse"
PEAKS = Peaks().parameters


@pytest.fixture
def tables(lake: TestLake) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables and views of a lake with a champion, 64 px at 1 mpp, and two tilings; slide 's' is in it."""
    for name, mpp in ((FINE, 1.0), (COARSE, 2.0), ("region", 1.0)):
        tiling = {"patch_set": name, "tiling": "grid", "patch_px": 64, "mpp": mpp, "stride_px": 32, "tissue_od": 0.05}
        store.put(lake.root, "patch_sets", [full("patch_sets", **tiling)], "test")
    model = {"model_id": "m", "encoder_id": "e", "patch_set": FINE, "patch_px": 64, "mpp": 1.0}
    store.put(lake.root, "models", [full("models", **model)], "test")
    store.put(lake.root, "settings", [{"name": "champion", "value": "m"}], "test")
    with session.connect(lake.root, udfs=()) as con:
        con.execute("drop view runs")  # of the rows above
        con.from_arrow(TABLES["runs"].schema.empty_table()).create("runs")
        add(con, "slides", {"slide_id": "s", "path": "/slides/s.tif", "status": "ok", "split": "test"} | CURRENT)
        add(con, "runs", attempt("slides", "ok", 1, identity={}))
        yield con


CURRENT = {"fingerprint": "now"}


def full(table: str, **values: Any) -> dict[str, Any]:
    """A row of a table, NULL where no value is given."""
    return dict.fromkeys(TABLES[table].schema.names) | values


def add(con: duckdb.DuckDBPyConnection, table: str, *rows: dict[str, Any]) -> None:
    con.register("added", pa.Table.from_pylist([full(table, **row) for row in rows], schema=TABLES[table].schema))
    con.execute(f"insert into {table} by name from added")
    con.unregister("added")


def attempt(
    stage: str, status: str, at: int, *, identity: dict[str, Any] | None = None, **values: Any
) -> dict[str, Any]:
    """A row of the ledger, `at` minutes after the start; of the tiling FINE unless `identity` says otherwise."""
    owner = {"patch_set": FINE} if identity is None else identity
    row = {"slide_id": "s", "stage": stage, "status": status, "part": 0, "rows": 0, "errors": 0}
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=at)
    return row | CURRENT | {"identity": json.dumps(owner), "finished_at": moment} | values


def scored(rows: int, at: int, patch_set: str = FINE, **values: Any) -> list[dict[str, Any]]:
    """The ledger of a slide all patches of which were scored."""
    tiling = {"patch_set": patch_set}
    features = tiling | {"encoder_id": "e"}
    return [
        attempt("patches", "ok", at, identity=tiling, rows=rows, **values),
        attempt("features", "ok", at, identity=features, rows=rows, **values),
        attempt("predictions", "ok", at, identity=features | {"model_id": "m"}, rows=rows, **values),
    ]


def predictions(*probabilities: float, patch_set: str = FINE) -> list[dict[str, Any]]:
    owner = {"slide_id": "s", "patch_set": patch_set, "model_id": "m"} | CURRENT
    return [owner | {"x": x, "y": 0, "probability": p, "bucket": 0} for x, p in enumerate(probabilities)]


def worklist(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The row of slide 's'."""
    [row] = con.execute(query("app/worklist"), {**PEAKS, "top": 10}).pl().to_dicts()
    return dict(row)


def test_a_score_is_the_mean_of_the_ten_highest_and_no_others(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", *scored(20, 2))
    add(tables, "predictions", *predictions(*(number / 20 for number in range(20))))
    row = worklist(tables)
    assert (row["status"], row["patches"], row["highest"]) == ("scored", 20, 0.95)
    assert row["score"] == pytest.approx(sum(range(10, 20)) / 200)


def test_a_score_that_the_lake_remembers_is_not_computed_again(tables: duckdb.DuckDBPyConnection) -> None:
    owner = {"slide_id": "s", "patch_set": FINE, "model_id": "m"} | CURRENT
    add(tables, "runs", *scored(1, 2))
    add(tables, "predictions", *predictions(0.25))
    add(tables, "slide_scores", *(owner | {"name": name, "score": 0.5} for name in ("max", "mean_top10")))
    assert worklist(tables)["score"] == 0.25  # nobody knows when these scores were measured
    noted = {"slide_id": None, "parameters": json.dumps({"model_id": "m", "patch_set": FINE})}
    add(tables, "runs", attempt("slide_scores", "ok", 3, identity={}, **noted))
    assert (worklist(tables)["score"], worklist(tables)["highest"]) == (0.5, 0.5)
    add(tables, "runs", *scored(1, 4))
    assert worklist(tables)["score"] == 0.25  # scored anew since


def test_a_slide_in_several_tilings_is_shown_in_the_one_with_most_scored_patches(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    add(tables, "runs", *scored(1, 2, "region"), *scored(2, 2), attempt("patches", "ok", 2, rows=9))
    add(tables, "predictions", *predictions(0.9, patch_set="region"), *predictions(0.1, 0.2))
    row = worklist(tables)
    assert (row["patch_set"], row["patches"], row["highest"]) == (FINE, 2, 0.2)


def test_tissue_is_that_of_the_patches_each_for_its_cell_of_the_grid(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", attempt("patches", "ok", 2, rows=2))
    owner = {"slide_id": "s", "patch_set": FINE, "bucket": 0} | CURRENT
    add(tables, "patches", *(owner | {"x": x, "y": 0, "tissue": tissue} for x, tissue in ((0, 0.5), (32, 0.75))))
    assert worklist(tables)["tissue_mm2"] == pytest.approx(1.25 * 0.032**2)  # stride 32 px at 1 mpp


def test_hotspots_are_counted_once_evaluate_has_looked_for_them(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", *scored(2, 2))
    assert worklist(tables)["hotspots"] is None
    owner = {"patch_set": FINE, "model_id": "m", **PEAKS}
    heatmap = {"fingerprint": hashlib.md5(b"now:2").hexdigest()}
    add(tables, "runs", attempt("detections", "empty", 3, identity=owner, **heatmap))
    assert worklist(tables)["hotspots"] == 0
    add(tables, "runs", attempt("detections", "ok", 4, identity=owner | {"radius_um": 99.0}, rows=7, **heatmap))
    add(tables, "runs", attempt("detections", "ok", 4, identity=owner, rows=3, **heatmap))
    assert worklist(tables)["hotspots"] == 3
    add(tables, "runs", *scored(5, 5))
    assert worklist(tables)["hotspots"] is None  # of a heatmap that has changed


def test_a_slide_scored_in_part_says_so_and_how_to_go_on(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", *scored(5, 2), attempt("patches", "ok", 3, rows=9))
    row = worklist(tables)
    assert (row["status"], row["remedy"]) == ("scored in part", "`histolake run --slide 's'`")
    add(tables, "runs", attempt("features", "ok", 4, identity={"patch_set": FINE, "encoder_id": "e"}, rows=9, errors=2))
    assert worklist(tables)["remedy"] == "`histolake predict --slide 's'`"
    rest = {"patch_set": FINE, "encoder_id": "e", "model_id": "m"}
    add(tables, "runs", attempt("predictions", "ok", 5, identity=rest, rows=2, part=1))
    row = worklist(tables)
    assert (row["status"], row["patches"], row["remedy"]) == ("scored", 7, None)


def test_what_another_file_or_model_was_scored_with_does_not_count(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", *scored(5, 2, fingerprint="before"))
    other = {"patch_set": FINE, "encoder_id": "e", "model_id": "another"}
    add(tables, "runs", attempt("predictions", "ok", 3, identity=other, rows=5))
    assert worklist(tables)["status"] == "not scored"


def test_rows_that_another_result_replaced_do_not_count(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", *scored(5, 2), *scored(6, 3, part=1), *scored(4, 4, fingerprint="between"))
    assert worklist(tables)["patches"] is None
    add(tables, "runs", *scored(5, 5))
    assert worklist(tables)["patches"] == 5


def test_a_stage_that_failed_on_a_slide_is_its_reason_with_what_to_type(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", attempt("features", "ok", 3), attempt("features", "failed", 2, part=1, error="no disk"))
    row = worklist(tables)
    assert (row["status"], row["reason"]) == ("failed", "features: no disk")
    assert row["remedy"] == "`histolake run --slide 's' --retry-failed`"
    add(tables, "runs", attempt("predictions", "failed", 4, error="no model"))
    assert worklist(tables)["remedy"] == "`histolake predict --slide 's' --retry-failed`"


def test_a_slide_that_cannot_be_read_names_the_file_to_mend(tables: duckdb.DuckDBPyConnection) -> None:
    tables.execute("update slides set status = 'failed', error = 'torn', slide_id = 'O''Brien'")
    row = worklist(tables)
    assert (row["status"], row["reason"]) == ("failed", "torn")
    assert "`histolake ingest '/slides/s.tif' --retry-failed`" in row["remedy"]
    tables.execute("update slides set status = 'ok', error = null")
    assert worklist(tables)["remedy"] == r"`histolake run --slide 'O'\''Brien'`"


def test_a_failure_that_was_repaired_is_none(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", attempt("features", "failed", 2, error="no disk"), attempt("features", "ok", 3))
    row = worklist(tables)
    assert (row["status"], row["reason"]) == ("not scored", None)


def test_a_failure_of_an_older_file_is_none(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", attempt("features", "failed", 2, error="bad tile"), attempt("slides", "ok", 3, identity={}))
    assert worklist(tables)["status"] == "not scored"


@pytest.mark.parametrize("identity", [{"patch_set": COARSE}, {"patch_set": FINE, "encoder_id": "another"}])
def test_a_failure_that_does_not_concern_the_champion_is_none(
    tables: duckdb.DuckDBPyConnection, identity: dict[str, str]
) -> None:
    add(tables, "runs", attempt("features", "failed", 2, error="no disk", identity=identity))
    assert worklist(tables)["status"] == "not scored"


def test_a_slide_without_tissue_says_so_and_what_finds_fainter_tissue(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", attempt("patches", "empty", 2))
    row = worklist(tables)
    assert row["status"] == "no tissue"
    assert "`histolake run --slide 's' --tissue-od 0.025`" in row["remedy"]


def test_the_last_run_is_the_newest_entry_in_utc(tables: duckdb.DuckDBPyConnection) -> None:
    add(tables, "runs", attempt("labels", "empty", 90))
    tables.execute("set timezone = 'Asia/Tokyo'")
    assert worklist(tables)["last_run"] == datetime(2026, 1, 1, 1, 30)


def test_the_worklist_of_a_finished_lake_says_what_its_tables_hold(full_lake: TestLake) -> None:
    listed = answer(full_lake, "worklist", **PEAKS, top=10).sort("slide_id")
    probability = pl.col("probability")
    expected = (
        full_lake.read("predictions")
        .group_by("slide_id")
        .agg(pl.len(), probability.max().alias("highest"), probability.top_k(10).mean().alias("score"))
        .join(full_lake.read("patches").group_by("slide_id").agg(pl.col("tissue").sum()), on="slide_id")
        .join(full_lake.read("detections").group_by("slide_id").len("hotspots"), on="slide_id", how="left")
        .sort("slide_id")
    )
    assert listed["patches"].to_list() == expected["len"].to_list()
    assert listed["highest"].to_list() == pytest.approx(expected["highest"].to_list())
    assert listed["score"].to_list() == pytest.approx(expected["score"].to_list())
    assert listed["tissue_mm2"].to_list() == pytest.approx((expected["tissue"] * 0.064**2).to_list())
    assert listed["hotspots"].to_list() == expected["hotspots"].fill_null(0).to_list()
    assert listed["status"].unique().to_list() == ["scored"]


def test_the_worklist_is_the_same_before_evaluate_has_remembered_the_scores(full_lake: TestLake) -> None:
    columns = ["slide_id", "status", "patches", "score", "highest"]
    remembered = answer(full_lake, "worklist", **PEAKS, top=10).select(columns)
    store.replace(
        full_lake.root,
        "slide_scores",
        TABLES["slide_scores"].schema.empty_table(),
        [store.Replacement({"model_id": full_lake.read("models")["model_id"][0]})],
        [store.entry("slide_scores", run_id="test")],
    )
    assert full_lake.read("slide_scores").is_empty()
    assert answer(full_lake, "worklist", **PEAKS, top=10).select(columns).equals(remembered)


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


def test_hotspots_are_the_highest_predictions_in_order(full_lake: TestLake) -> None:
    patch_set = full_lake.read("patch_sets")["patch_set"][0]
    hottest = answer(full_lake, "hotspots", slide_id="tumor_4", patch_set=patch_set, patches=5)
    expected = full_lake.read("predictions").filter(slide_id="tumor_4")["probability"].top_k(5)
    assert hottest["probability"].to_list() == expected.sort(descending=True).to_list()
    assert hottest["position"].to_list() == [1, 2, 3, 4, 5]
