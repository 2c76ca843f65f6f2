"""The queries of the app whose answers the pages only repeat."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_curve
from support import TestLake, asap

from lake import models, session, store
from lake.choices import Peaks
from lake.sql_files import query
from lake.tables import TABLES

FINE, COARSE = "fine", "coarse"
PEAKS = Peaks().parameters


@pytest.fixture(scope="module")
def with_champion(empty_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    """A lake with a champion, 64 px at 1 mpp, and two tilings; only read here."""
    lake = TestLake(Path(shutil.copytree(empty_lake, tmp_path_factory.mktemp("champion") / "lake")))
    for name, mpp in ((FINE, 1.0), (COARSE, 2.0), ("region", 1.0)):
        tiling = {"patch_set": name, "tiling": "grid", "patch_px": 64, "mpp": mpp, "stride_px": 32, "tissue_od": 0.05}
        store.put(lake.root, "patch_sets", [full("patch_sets", **tiling)], "test")
    model = {"model_id": "m", "encoder_id": "e", "patch_set": FINE, "patch_px": 64, "mpp": 1.0}
    store.put(lake.root, "models", [full("models", **model)], "test")
    store.put(lake.root, "settings", [{"name": "champion", "value": "m"}], "test")
    return lake


@pytest.fixture
def tables(with_champion: TestLake) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables and views of that lake; slide 's' is in it."""
    with session.connect(with_champion.root, udfs=()) as con:
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


@pytest.mark.parametrize(
    ("peaks", "asked"),
    [({}, ""), ({"radius_um": 99.0, "smoothing_um": 0.0}, " --detection-radius-um 99.0 --smoothing-um 0.0")],
)
def test_peaks_that_could_not_be_found_are_looked_for_again_as_they_were(
    tables: duckdb.DuckDBPyConnection, peaks: dict[str, float], asked: str
) -> None:
    owner = {"patch_set": FINE, "model_id": "m", **PEAKS, **peaks}
    add(tables, "runs", *scored(2, 2), attempt("detections", "failed", 3, identity=owner, error="no memory"))
    row = worklist(tables)
    assert (row["status"], row["reason"]) == ("failed", "detections: no memory")
    assert row["remedy"] == f"`histolake evaluate{asked} --retry-failed`"


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


def of_champion(lake: TestLake, name: str, **values: Any) -> pl.DataFrame:
    return answer(lake, name, model_id=models.champion(lake.root), **values)


@pytest.mark.slow
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


@pytest.mark.slow
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
    search = {"radius_um": 100.0, "smoothing_um": 0.0, "min_probability": 0.0, "candidates": 1000, "hotspots": 100}
    return answer(lake, "hotspots", **{**where, **search, **values})


def test_hotspots_are_the_detections_where_there_are_any(full_lake: TestLake) -> None:
    found = hotspots(full_lake, **PEAKS)
    stored = full_lake.read("detections").filter(slide_id="tumor_4", **PEAKS).sort("probability", descending=True)
    centres = found.select(x=pl.col("x") + pl.col("span_x") / 2, y=pl.col("y") + pl.col("span_y") / 2)
    assert found["probability"].to_list() == pytest.approx(stored["probability"].to_list()) != []
    assert sorted(centres.rows()) == sorted(stored.select("x", "y").rows())


def test_hotspots_are_patches_that_no_higher_one_is_near(full_lake: TestLake) -> None:
    found = hotspots(full_lake)
    assert found["probability"].is_sorted(descending=True)
    assert found["rank"].to_list() == list(range(1, found.height + 1))
    peaks = set(found.select("x", "y").rows())
    scored = full_lake.read("predictions").filter(slide_id="tumor_4").select("x", "y", "probability").rows()
    for x, y, probability in scored:
        rivals = [(-p, v, u) < (-probability, y, x) for u, v, p in scored if (u - x) ** 2 + (v - y) ** 2 < 100**2]
        assert ((x, y) in peaks) == (not any(rivals))


def test_hotspots_are_none_below_the_lowest_probability(full_lake: TestLake) -> None:
    every = hotspots(full_lake)
    lowest = every["probability"].sort()[every.height // 2]
    assert hotspots(full_lake, min_probability=lowest).rows() == every.filter(pl.col("probability") >= lowest).rows()


def test_hotspots_are_at_most_as_many_as_asked_for(full_lake: TestLake) -> None:
    assert hotspots(full_lake, hotspots=2).rows() == hotspots(full_lake).head(2).rows()
    assert hotspots(full_lake, candidates=1)["rank"].to_list() == [1]


@pytest.mark.slow
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
