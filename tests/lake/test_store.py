"""Delta: atomic units beside other writers and compactions, consistent snapshots, a ledger that mends itself."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from delta_writers import write, writer
from deltalake import write_deltalake
from support import ROOT, RUN_S, TestLake, all_end, run, until, write_slide

from lake import connect, creation, session, store, upkeep
from lake.tables import APART, FORMAT, GROWN, TABLES
from udfs.errors import LakeError

STOPPED = "histolake: stopped; what was committed stays, the same command goes on from there"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake that `root` is a copy of."""
    root = tmp_path_factory.mktemp("made") / "lake"
    creation.create(root)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """An empty lake."""
    return Path(shutil.copytree(made, tmp_path / "lake"))


def test_a_unit_replaces_itself_and_nothing_else(root: Path) -> None:
    write(root, "a", 3)
    write(root, "O'Brien; drop table", 2)
    write(root, "a", 1, probability=0.9)
    found = store.rows(root, "predictions").sort("slide_id", "x").select("slide_id", "probability").rows()
    assert found == [("O'Brien; drop table", 0.5)] * 2 + [("a", 0.9)]


def test_a_unit_without_rows_deletes_what_was_there_and_writes_nothing_when_nothing_was(root: Path) -> None:
    write(root, "a", 3)
    before = store.open_table(root, "predictions").version()
    write(root, "never", 0)
    assert store.open_table(root, "predictions").version() == before
    write(root, "a", 0)
    assert store.rows(root, "predictions").is_empty()
    assert store.rows(root, "runs").filter(stage="predictions").height == 3


def test_many_processes_and_a_compaction_lose_nothing(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=writer, args=(root, number)) for number in range(4)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + RUN_S
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        upkeep.optimize(root, "predictions")
        time.sleep(0.05)
    all_end(processes)
    found = store.rows(root, "predictions").group_by("slide_id").agg(pl.len(), pl.col("probability").unique().implode())
    assert sorted(found.rows()) == [(f"slide_{number}", 10, [0.2]) for number in range(4)]
    ledger = store.rows(root, "runs").filter(pl.col("stage") == "predictions", pl.col("rows") > 0)
    assert ledger.height == 12
    assert ledger["table_version"].n_unique() == 12


def test_several_processes_make_one_lake(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        for number in range(4):  # the race is not the same each time; in the first one starts before the others
            root = tmp_path / f"lake_{number}"
            pool.map_async(creation.create, [root] * 3, chunksize=1).get(RUN_S)
            assert sorted(store.rows(root, "settings").rows()) == [("format", str(FORMAT)), ("seed", "0")]


def test_a_lake_whose_making_was_interrupted_is_finished(tmp_path: Path) -> None:
    for table in TABLES.values():
        creation.create_table(tmp_path / "lake", table)
    creation.create(tmp_path / "lake")
    assert sorted(store.rows(tmp_path / "lake", "settings").rows()) == [("format", str(FORMAT)), ("seed", "0")]


def test_a_lake_of_an_older_format_is_brought_up_to_date_and_keeps_its_rows(full_lake: TestLake) -> None:
    root, added = (
        full_lake.root,
        {
            "protocol",
            "head",
            "calibration",
            "threshold",
            "training_slides",
            "encoder_id",
            "mlflow_run_id",
            "parameters",
            "slopes",
            "intercept",
            "sum_bits",
        },
    )
    before = {name: full_lake.read(name) for name in (*GROWN, "slides")}
    for name in GROWN:
        old = before[name].drop([column for column in added - {"encoder_id"} if column in before[name].columns])
        write_deltalake(str(root / name), old.to_arrow(), mode="overwrite", schema_mode="overwrite")
    for name in ("annotation_groups", "detections", "slide_scores", "reviews", "model_files"):
        shutil.rmtree(root / name)
        store.open_table(root, "runs").delete(f"stage = '{name}'")
    store.put(root, "settings", [{"name": "format", "value": "1"}], "test")
    refused = full_lake("sql", "select 1")
    assert refused.status == 1
    assert "histolake optimize" in refused.err
    full_lake.ok("optimize", "models")
    for name, rows in before.items():
        kept = [column for column in rows.columns if column not in added]
        assert full_lake.read(name).columns == rows.columns
        assert sorted(full_lake.read(name).select(kept).rows(), key=str) == sorted(rows.select(kept).rows(), key=str)
    groups = dict(full_lake.read("annotation_groups").select("group_name", "label").rows())
    assert groups["tumor"] == 1
    assert connect(root).sql("select model_id from models").fetchall()


def test_a_snapshot_shows_no_table_ahead_of_the_ledger(root: Path) -> None:
    write(root, "a", 3)
    con = connect(root)
    write(root, "a", 0)
    write(root, "b", 7)
    assert con.sql("select slide_id, count(*) from predictions group by all").fetchall() == [("a", 3)]
    assert connect(root).sql("select slide_id, count(*) from predictions group by all").fetchall() == [("b", 7)]


def die_between_commit_and_ledger(root: Path) -> None:
    """Run a writer in a process of its own that is killed right after its data commit."""
    code = f"""
    import os, signal, sys
    sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
    from pathlib import Path
    from lake import store
    import delta_writers
    store.record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    delta_writers.write(Path({str(root)!r}), "lost", 5)
    """
    ended = run([sys.executable, "-c", textwrap.dedent(code)])
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_crash_between_commit_and_ledger_is_mended_from_the_commit(root: Path) -> None:
    write(root, "a", 3)
    die_between_commit_and_ledger(root)
    write(root, "c", 1)  # another writer's later commit must not hide the lost entry
    assert "lost-0.5" not in store.rows(root, "runs")["run_id"]
    with connect(root, read_only=False) as con:
        mended = con.sql("select rows, status, table_version from runs where run_id = 'lost-0.5'").fetchall()
        assert mended == [(5, "ok", 2)]
        assert con.sql("select count(*) from predictions where slide_id = 'lost'").fetchall() == [(5,)]
    assert store.repair(root) == 0


def test_recording_a_commit_twice_is_recording_it_once(root: Path) -> None:
    write(root, "a", 3)
    once = store.rows(root, "runs").filter(stage="predictions").to_dicts()[0]
    again = store.Entry(**{**once, "finished_at": once["finished_at"].isoformat()})
    store.record(root, [again])
    assert store.rows(root, "runs").filter(stage="predictions").to_dicts() == [once]


def test_another_run_that_names_the_same_version_takes_no_entry_away(root: Path) -> None:
    """Beside other writers a compaction may take a later commit for its own."""
    write(root, "a", 3)
    upkeep = store.entry("predictions", run_id="upkeep", parameters={"operation": "optimize"})
    version = store.open_table(root, "predictions").version()
    store.record(root, [replace(upkeep, table_version=version)])
    assert set(store.rows(root, "runs").filter(stage="predictions")["run_id"]) == {"a-0.5", "upkeep"}


def test_old_versions_stay_readable_until_they_are_vacuumed(root: Path) -> None:
    for count in (1, 2, 3):
        write(root, "a", count)
    for number in (0, 1, 2, 3):
        assert connect(root, at={"predictions": number}).table("predictions").pl().height == number
    assert [commit["rows"] for commit in upkeep.history(root, "predictions")] == [3, 2, 1, None]
    assert upkeep.vacuum(root, "predictions", 0) == 2
    assert connect(root).table("predictions").aggregate("count(*)").fetchall() == [(3,)]


def test_versions_of_long_ago_are_not_forgotten(root: Path) -> None:
    for count in (1, 2, 3):
        write(root, "a", count)
    for name in ("predictions", "runs"):
        store.open_table(root, name).create_checkpoint()
        for file in (root / name / "_delta_log").iterdir():
            os.utime(file, (0, 0))
    write(root, "a", 4)
    upkeep.optimize(root, "predictions")
    for number in (1, 2, 3, 4):
        assert connect(root, at={"predictions": number}).table("predictions").pl().height == number
    assert store.moment(root, {"predictions": 1})["runs"] < store.moment(root, {"predictions": 2})["runs"]


def test_every_hundredth_version_leaves_a_checkpoint(root: Path) -> None:
    """Else a commit reads all commits before it."""
    log = root / "predictions" / "_delta_log"
    for number in range(1, 99):
        (log / f"{number:020d}.json").write_text('{"commitInfo": {"timestamp": 0, "operation": "WRITE"}}\n')
    write(root, "a", 1)
    assert [file.name for file in log.glob("*.checkpoint.parquet")] == [f"{99:020d}.checkpoint.parquet"]


def test_compaction_merges_files_and_readers_follow(root: Path) -> None:
    for number in range(5):
        write(root, f"s{number}", 2)
    assert upkeep.optimize(root, "predictions") == 5
    assert upkeep.vacuum(root, "predictions", 0) == 5
    assert connect(root).table("predictions").aggregate("count(*)").fetchall() == [(10,)]


def test_a_ledger_of_many_files_is_tidied_and_says_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        write(root, f"s{number}", 2)
    before = store.rows(root, "runs")
    store.tidy_ledger(root)
    assert store.rows(root, "runs").equals(before)  # few files are left alone
    monkeypatch.setattr(store, "LEDGER_FILES", 3)
    store.tidy_ledger(root)
    assert len(store.open_table(root, "runs").file_uris()) < 5
    assert store.rows(root, "runs").sort("finished_at", "stage").equals(before.sort("finished_at", "stage"))
    assert connect(root).table("predictions").pl().height == 10


def test_every_column_says_what_it_holds_and_the_comment_is_in_the_table(root: Path) -> None:
    for table in (*TABLES.values(), *APART.values()):
        fields = store.open_table(root, table.name).schema().fields
        assert [field.name for field in fields] == [column.name for column in table.columns]
        for field, column in zip(fields, table.columns, strict=True):
            assert field.metadata["comment"] == column.about
            assert len(column.about) > 3


def test_a_read_only_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match="file"):
        creation.create(tmp_path / "file" / "lake")


@pytest.mark.slow
def test_concurrent_runs_of_the_same_work_end_equal_to_one(full_lake: TestLake) -> None:
    full_lake.ok("run", "--patch-px", "32", "--mpp", "1", "--encoder", "tiny", "--stage", "patches")
    words = [
        sys.executable,
        "-m",
        "lake",
        "run",
        "--patch-px",
        "32",
        "--mpp",
        "1",
        "--encoder",
        "tiny",
        "--lake",
        str(full_lake.root),
    ]
    both = [subprocess.Popen(words, cwd=ROOT, env={**os.environ}, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(RUN_S) for process in both] == [0, 0]
    full_lake.ok("check")
    patches = full_lake.read("patches").filter(pl.col("patch_set").str.starts_with("grid-32px"))
    features = full_lake.read("features").filter(pl.col("patch_set").str.starts_with("grid-32px"))
    assert features.height == patches.height > 1000


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_is_stopped_goes_on_where_it_was(
    lake: TestLake, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    for name in ("a", "b"):
        write_slide(tmp_path / f"{name}.tif", tissue=(0, 0, 2048, 1536), size=(2048, 1536))
    lake.ok("ingest", str(tmp_path))
    words = ["run", "--patch-px", "16", "--mpp", "1", "--encoder", "tiny"]
    lake.ok(*words, "--stage", "patches")
    at_once = "from lake import cli, commits; commits.COMMIT_SECONDS = commits.SHARE = 0; cli.main()"  # else all wait
    command = [sys.executable, "-c", at_once, *words, "--lake", str(lake.root)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until(lambda: not lake.read("features").is_empty() or process.poll() is not None, "the first part is committed")
    assert process.poll() is None
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status, said
    assert said.strip() == (STOPPED if number == signal.SIGINT else "")
    done = lake.read("features").height
    assert 0 < done < 2 * 12288
    assert done % 4096 == 0  # whole parts only
    lake.ok(*words)
    assert lake.read("features").height == 2 * 12288
    lake.ok("check")


def test_an_encoder_that_is_gone_stops_the_run_and_blames_no_slide(full_lake: TestLake) -> None:
    shutil.rmtree(full_lake.root / "onnx")
    answer = full_lake("run", "--patch-px", "32", "--mpp", "1", "--encoder", "tiny")
    assert answer.status == 1
    assert answer.err.count("histolake: ") == 1
    assert "failed:" not in answer.err
    assert full_lake.read("runs").filter(stage="features", status="failed").is_empty()


def test_a_lake_may_be_in_a_folder_with_spaces_and_signs(tmp_path: Path) -> None:
    root = tmp_path / "my slides, 100% ü"
    creation.create(root, seed=7)
    store.put(root, "settings", [{"name": "a", "value": "b"}], "test")
    assert store.setting(root, "seed") == "7"
    assert set(store.rows(root, "runs")["stage"]) == {"settings", "annotation_groups"}
    with session.connect(root, read_only=False) as con:
        assert con.sql("select value from settings where name = 'a'").fetchall() == [("b",)]
        assert con.sql("select count(*) > 0 from runs").fetchall() == [(True,)]
