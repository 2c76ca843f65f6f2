"""Which files are behind a table: all of its version, or those that may hold the slide that a query is about."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from support import TestLake

from lake import commits, connect, creation, session, sql_files, store, upkeep
from lake.pipeline import plan
from lake.session import Connection
from lake.sql_files import is_ours, query
from lake.store import Replacement
from lake.table_files import Files, bucket_of, of_slide
from lake.tables import PREDICTIONS
from udfs.errors import LakeError

SLIDES = ("a", "b", "it's", "Ä", "ÄÄ", "n" * 100, "n" * 100 + "1", "\U0010ffff" * 30)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake that `root` is a copy of."""
    root = tmp_path_factory.mktemp("written") / "lake"
    creation.create(root)
    for number, slide_id in enumerate(SLIDES):
        where = {"slide_id": slide_id, "part": 0, "bucket": bucket_of(slide_id), "patch_set": "p", "model_id": "m"}
        row = {**dict.fromkeys(PREDICTIONS.schema.names), **where, "x": number, "y": 0, "probability": 0.5}
        done = store.entry("predictions", run_id="test", rows=1)
        rows = pa.Table.from_pylist([row], schema=PREDICTIONS.schema)
        store.replace(root, "predictions", rows, [Replacement(where)], [done])
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A lake with a file of predictions for each slide."""
    return Path(shutil.copytree(written, tmp_path / "lake"))


def slides_seen(con: Connection) -> list[str]:
    return [slide_id for (slide_id,) in con.execute("select slide_id from predictions order by x").fetchall()]


def test_a_query_about_one_slide_looks_into_its_files_alone(root: Path) -> None:
    with connect(root) as con:
        for slide_id in SLIDES:
            with of_slide(con, slide_id):
                assert slide_id in slides_seen(con)
                assert len(slides_seen(con)) <= 2  # statistics of long names are cut off, and may be alike
        assert slides_seen(con) == list(SLIDES)


def test_a_question_about_a_slide_stays_in_its_bucket(root: Path) -> None:
    """Also when files were merged: then each holds slides from one end of the alphabet to the other."""
    upkeep.optimize(root, "predictions")
    found = Files(str(root / "predictions"), store.open_table(root, "predictions"))
    for slide_id in SLIDES:
        [file] = found.of(slide_id)
        assert f"/bucket={bucket_of(slide_id)}/" in file
    assert len(found.of("never")) == 1


def test_a_slides_bucket_is_the_same_in_python_and_in_sql(root: Path) -> None:
    with connect(root, udfs=()) as con:
        for slide_id in SLIDES:
            assert con.execute("select bucket_of($s)", {"s": slide_id}).fetchall() == [(bucket_of(slide_id),)]


def test_the_ledger_of_a_stage_of_any_name_can_be_read(tmp_path: Path) -> None:
    """Delta's log escapes the names of folders."""
    root = tmp_path / "lake"
    creation.create(root)
    store.record(root, [store.entry("100 % sure: yes/no", run_id="test")])
    with connect(root) as con:
        assert con.execute("select stage from runs where run_id = 'test'").fetchall() == [("100 % sure: yes/no",)]


def test_all_slides_are_there_again_after_an_error(root: Path) -> None:
    with connect(root) as con:
        with pytest.raises(duckdb.Error), of_slide(con, "a"):
            con.execute("select error('no')").fetchall()
        assert slides_seen(con) == list(SLIDES)


def test_cursors_of_one_connection_look_into_files_of_their_own(root: Path) -> None:
    with connect(root) as con, con.cursor() as one, con.cursor() as other, of_slide(one, "a"), of_slide(other, "b"):
        assert (slides_seen(one), slides_seen(other), slides_seen(con)) == (["a"], ["b"], list(SLIDES))


def test_a_slide_without_rows_has_none(root: Path) -> None:
    with connect(root) as con, of_slide(con, "unknown"):
        assert con.execute("select * from predictions where slide_id = 'unknown'").fetchall() == []
        assert con.execute("select * from patches where slide_id = 'unknown'").fetchall() == []


def test_tables_that_are_not_about_slides_stay_whole(root: Path) -> None:
    with connect(root) as con:
        counts = "select (select count(*) from runs), (select count(*) from settings)"
        whole = con.execute(counts).fetchall()
        with of_slide(con, "a"):
            assert con.execute(counts).fetchall() == whole


def test_what_the_log_counts_is_what_is_read(root: Path) -> None:
    """Files that a version no longer has, or not yet, are in the folder; the view does not show them."""
    write_again = store.rows(root, "predictions").to_arrow().cast(PREDICTIONS.schema)
    store.replace(
        root,
        "predictions",
        write_again,
        [Replacement({"patch_set": "p"})],
        [store.entry("predictions", run_id="again")],
    )
    stray = next((root / "predictions").glob("*/*.parquet"))
    shutil.copy(stray, stray.with_name("part-stray.parquet"))
    with connect(root) as con:
        assert slides_seen(con) == list(SLIDES)


def test_a_file_that_is_gone_is_named_when_the_lake_is_opened(root: Path) -> None:
    last = store.open_table(root, "predictions").file_uris()[-1]
    Path(last).unlink()
    with pytest.raises(LakeError, match=f"{Path(last).name} is not there; restore its files"):
        connect(root)


def test_a_column_of_folders_keeps_its_type(tmp_path: Path) -> None:
    """DuckDB would take stages that are called like days for days."""
    creation.create(tmp_path / "lake")
    store.record(tmp_path / "lake", [store.entry("2026-01-01", run_id="test")])
    with connect(tmp_path / "lake") as con:
        assert con.execute("select stage from runs where run_id = 'test'").fetchall() == [("2026-01-01",)]
        assert con.execute("select bucket from predictions").description[0][1] == duckdb.type("BIGINT")


def test_the_heatmap_of_a_slide_is_the_same_from_its_own_files(full_lake: TestLake) -> None:
    model = full_lake.read("predictions")["model_id"][0]
    with connect(full_lake.root, udfs=()) as con:
        for slide_id in full_lake.read("predictions")["slide_id"].unique():
            asked = {"slide_id": slide_id, "model_id": model, "patch_set": None}
            whole = con.execute(query("app/heatmap_tiles"), asked).pl()
            with of_slide(con, slide_id):
                assert con.execute(query("app/heatmap_tiles"), asked).pl().equals(whole)
            assert whole.height


def test_stages_and_views_of_a_lake_may_look_at_other_slides(tmp_path: Path) -> None:
    shipped = sql_files.stages()
    assert all(is_ours(each, tmp_path) for each in shipped.values())
    views = tmp_path / "sql" / "views"
    views.mkdir(parents=True)
    (views / "slide_tilings.sql").write_text(query("views/slide_tilings"))
    assert not is_ours(shipped["features"], tmp_path)
    (tmp_path / "sql" / "slides.sql").write_text(query("slides") + "\n")
    assert is_ours(shipped["slides"], tmp_path)
    assert not is_ours(sql_files.stages(tmp_path)["slides"], tmp_path)


def test_planning_a_slide_by_its_name_plans_what_a_pattern_plans(full_lake: TestLake) -> None:
    [patch_set] = full_lake.read("patches")["patch_set"].unique()
    chosen = {"patch_set": patch_set, "encoder_id": "new", "input_px": 64}
    stage = sql_files.stages()["features"]
    with connect(full_lake.root, udfs=()) as con:
        by_name = plan(con, stage, chosen, ["tumor_1"], False)
        assert by_name == plan(con, stage, chosen, ["tumor_[1]"], False)
        assert {unit.slide_id for unit in by_name} == {"tumor_1"}
        both = plan(con, stage, chosen, ["tumor_1", "normal_*"], False)
        assert {unit.slide_id for unit in both} > {"tumor_1"}
        with of_slide(con, "tumor_1"):
            assert plan(con, stage, chosen, ["tumor_1"], False) == by_name


def test_a_long_run_tidies_the_ledger_on_its_way(full_lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LEDGER_FILES", 2)
    monkeypatch.setattr(commits, "COMMIT_UNITS", 1)
    before = store.open_table(full_lake.root, "runs").version()
    full_lake.ok("run", "--patch-px", "32", "--mpp", "1", "--encoder", "tiny", "--stage", "patches")
    made = upkeep.history(full_lake.root, "runs")[: store.open_table(full_lake.root, "runs").version() - before]
    done = [commit["operation"] for commit in reversed(made)]
    assert "WRITE" in done[done.index("OPTIMIZE") :]


def test_a_cursor_reads_on_when_the_connection_that_it_is_of_has_gone(root: Path) -> None:
    """Its functions would go, too, and the process with them."""
    con = session.connect(root, udfs=())
    cursor = session.cursor(con)
    gone = weakref.ref(con)
    del con
    gc.collect()
    assert gone() is not None
    assert cursor.table("predictions").aggregate("count(*)").fetchall()[0][0] > 0
    del cursor
    gc.collect()
    assert gone() is None
