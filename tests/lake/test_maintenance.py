"""`histolake maintain`: what it merges, deletes and keeps, beside readers and writers, and when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
import textwrap
import time
from pathlib import Path

import polars as pl
import pytest
from delta_writers import write, writer
from support import ROOT, RUN_S, TestLake, all_end, run, run_command

from lake import connect, creation, maintenance, store
from lake.maintenance import Done


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake that `root` is a copy of."""
    root = tmp_path_factory.mktemp("written") / "lake"
    creation.create(root)
    for number in range(5):
        write(root, f"s{number}", 3)
        write(root, f"s{number}", 2)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A lake of five slides, each in a file, beside files of older versions."""
    return Path(shutil.copytree(written, tmp_path / "lake"))


def maintain(root: Path, *tables: str, keep_hours: int = 168) -> dict[str, Done]:
    return {done.table: done for done in maintenance.maintain(root, [*tables] or None, keep_hours=keep_hours)}


def age(root: Path, name: str, hours: int = 400) -> None:
    """Make all that is in the table, and all that its log says, older."""
    seconds = time.time() - hours * 3600
    for file in (root / name).rglob("*.parquet"):
        os.utime(file, (seconds, seconds))
    for file in (root / name / "_delta_log").glob("*.json"):
        text = re.sub(r'"(deletionTimestamp|modificationTime)":\d+', rf'"\1":{int(seconds * 1000)}', file.read_text())
        file.write_text(text)


def files(root: Path, name: str) -> set[Path]:
    return set((root / name).glob("**/*.parquet")) - set((root / name / "_delta_log").iterdir())


def rows(root: Path) -> list[tuple[object, ...]]:
    with connect(root, udfs=()) as con:
        return con.execute("select slide_id, x, probability from predictions order by all").fetchall()


def test_files_are_merged_and_the_second_time_there_is_nothing_to_do(root: Path) -> None:
    before = rows(root)
    first = maintain(root)
    assert first["predictions"].files_merged == 5
    assert first["predictions"].files < 5
    assert first["runs"].files_merged > 0
    versions = {name: store.open_table(root, name).version() for name in first}
    assert all(done.is_idle for done in maintain(root).values())
    assert {name: store.open_table(root, name).version() for name in first} == versions
    assert rows(root) == before


def test_an_empty_lake_needs_nothing_but_checkpoints(tmp_path: Path) -> None:
    creation.create(tmp_path / "lake")
    assert not any(done.files_deleted for done in maintain(tmp_path / "lake").values())
    assert all(done.is_idle for done in maintain(tmp_path / "lake").values())


def test_where_no_lake_is_none_is_made(tmp_path: Path) -> None:
    answer = run_command("maintain", "--lake", str(tmp_path / "none"))
    assert answer.status == 1
    assert "is this a lake?" in answer.err
    assert not (tmp_path / "none").exists()


def test_a_reader_of_an_older_snapshot_reads_on(root: Path) -> None:
    with connect(root, udfs=()) as con:
        maintain(root)
        assert con.execute("select count(*) from predictions").fetchall() == [(10,)]
    assert connect(root, at={"predictions": 1}, udfs=()).table("predictions").pl().height == 3


def test_what_no_version_of_the_last_week_needs_is_deleted(root: Path) -> None:
    age(root, "predictions")
    before, found = rows(root), files(root, "predictions")
    done = maintain(root)["predictions"]
    gone = found - files(root, "predictions")
    assert done.files_deleted == len(gone) == 5  # what was merged now is needed for another week
    assert rows(root) == before
    assert done.bytes_freed > 0


def test_what_a_checkpoint_has_forgotten_is_deleted_too(root: Path) -> None:
    """Delta's checkpoints leave out what was removed more than a week ago."""
    age(root, "predictions")
    store.open_table(root, "predictions").create_checkpoint()
    write(root, "late", 1)
    assert maintain(root)["predictions"].files_deleted == 5


def test_what_a_stopped_writer_left_is_deleted_when_it_is_old(root: Path) -> None:
    stray = next((root / "predictions").glob("*/*.parquet")).with_name("part-stray.parquet")
    stray.write_bytes(b"half a file")
    assert maintain(root, keep_hours=24)["predictions"].files_deleted == 0
    assert stray.exists()
    os.utime(stray, (time.time() - 25 * 3600,) * 2)
    done = maintain(root, keep_hours=24)["predictions"]
    assert (done.files_deleted, done.bytes_freed) == (1, 11)
    assert not stray.exists()


def test_writers_go_on_meanwhile_and_nothing_is_lost(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=writer, args=(root, number)) for number in range(2)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + RUN_S
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        maintain(root, "predictions", "runs", keep_hours=24)
    all_end(processes)
    maintain(root)
    found = store.rows(root, "predictions").group_by("slide_id").len().sort("slide_id").rows()
    assert found == [(f"s{number}", 2) for number in range(5)] + [("slide_0", 10), ("slide_1", 10)]
    assert len(rows(root)) == 30


@pytest.mark.parametrize("moment", ["record", "DeltaTable.vacuum", "DeltaTable.create_checkpoint"])
def test_killed_at_any_moment_the_lake_is_as_good_and_the_next_call_goes_on(root: Path, moment: str) -> None:
    """Killed before the ledger knows of a merge, while files are deleted, and before the checkpoint."""
    age(root, "predictions")
    before = rows(root)
    code = f"""
    import os, signal, sys
    sys.path[:0] = [{str(ROOT)!r}]
    from pathlib import Path
    from lake import maintenance, store
    from lake.store import DeltaTable
    whole = store.{moment}
    def die(*args, **how):
        if "{moment}" == "DeltaTable.vacuum":
            if how["dry_run"]:
                return whole(*args, **how)
            for file in whole(*args, **{{**how, "dry_run": True}})[:2]:
                Path(args[0].table_uri.removeprefix("file://"), file).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    store.{moment} = die
    [*maintenance.maintain(Path({str(root)!r}), ["predictions"])]
    """
    ended = run([sys.executable, "-c", textwrap.dedent(code)])
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert rows(root) == before
    age(root, "predictions")  # a week goes by
    done = maintain(root)
    assert rows(root) == before
    assert done["predictions"].has_checkpoint
    assert all(each.is_idle for each in maintain(root).values())


def test_versions_that_a_model_was_trained_from_are_kept(full_lake: TestLake) -> None:
    model = full_lake.read("models")["model_id"][0]
    again = store.rows(full_lake.root, "slides").to_dicts()
    store.put(full_lake.root, "slides", again, "test")
    store.put(full_lake.root, "slides", again, "test")  # between the two, a version that nobody asks for
    for name in ("slides", "settings", "runs"):
        age(full_lake.root, name)
    done = maintain(full_lake.root)
    assert done["slides"].kept
    assert done["slides"].files_deleted == 1
    answer = full_lake.ok("reproduce", model, "--json").json()
    assert answer["model_id"] == model
    full_lake.ok("check")


def test_a_dry_run_says_what_will_be_done_and_does_nothing(full_lake: TestLake) -> None:
    store.put(full_lake.root, "slides", full_lake.read("slides").to_dicts(), "test")
    age(full_lake.root, "slides")
    before, held = full_lake.versions(), files(full_lake.root, "slides")
    said = {each["table"]: each for each in full_lake.ok("maintain", "--dry-run", "--json").json()}
    assert (full_lake.versions(), files(full_lake.root, "slides")) == (before, held)
    done = {each["table"]: each for each in full_lake.ok("maintain", "--json").json()}
    assert all(done[name]["files_merged"] <= said[name]["files_merged"] for name in said if name != "runs")
    deleted = {name: each["files_deleted"] for name, each in said.items()}
    assert {name: each["files_deleted"] for name, each in done.items()} == deleted
    assert "nothing to do" in full_lake.ok("maintain").err
    assert "nothing to do" in full_lake.ok("maintain", "--dry-run").err
    assert full_lake.ok("sql", "select count(*) as n from slides", "--format", "json").json() == [{"n": 6}]


def test_merged_files_hold_slides_next_to_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a question about one slide would look into all files of its bucket."""
    monkeypatch.setattr(store, "FILE_BYTES", 12_000)
    for number in range(20):
        write(root, f"slide {number:02d}", 2)
    maintain(root, "predictions")
    held = pl.DataFrame(store.open_table(root, "predictions").get_add_actions(flatten=True))
    merged = held.filter(pl.col("num_records") > 2).sort("partition.bucket", "min.slide_id")
    assert 1 < merged.height < 20
    for bucket in merged.partition_by("partition.bucket"):
        ends, starts = bucket["max.slide_id"][:-1], bucket["min.slide_id"][1:]
        assert (ends.to_frame("end").with_columns(start=starts).filter(pl.col("end") > pl.col("start"))).height <= 1
