"""Workers: what is done twice is there once, what is stopped is kept, and each keeps to its processors."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support import TestLake, all_end

from lake import commits, pipeline, session
from lake.sql_files import stages
from lake.units import Unit
from lake.worker import Job, Worker, local
from udfs import slide_process
from udfs.processors import cores
from udfs.slide_readers import readers

KEY = ["slide_id", "patch_set", "encoder_id", "x", "y"]
FINER = ("--patch-px", "32", "--mpp", "1", "--encoder", "tiny")


@pytest.fixture
def job(full_lake: TestLake) -> Job:
    """Features of a finer tiling, which nobody has made yet."""
    full_lake.ok("run", *FINER, "--stage", "patches")
    parameters = {
        "patch_set": next(each for each in full_lake.read("patch_sets")["patch_set"] if each.startswith("grid-32px")),
        "encoder_id": full_lake.read("encoders")["encoder_id"][0],
        "input_px": 16,
    }
    with session.connect(full_lake.root) as con:
        return Job(full_lake.root, stages()["features"], parameters, "a run", session.versions(con), {})


def open_job(job: Job) -> tuple[duckdb.DuckDBPyConnection, list[Unit]]:
    """A session as a worker has it, and all units of the job."""
    con = session.connect(job.root, at=job.versions)
    return con, pipeline.plan(con, job.stage, job.parameters, (), False)


def finish(job: Job, barrier: threading.Barrier) -> None:
    """What a worker does, from the moment on that all are ready."""
    con, units = open_job(job)
    worker = Worker(job, con)
    barrier.wait(60)
    list(worker.do(units))
    worker.flush()


def test_units_that_two_workers_do_at_once_and_one_once_more_are_there_once(job: Job, tmp_path: Path) -> None:
    here = TestLake(Path(shutil.copytree(job.root, tmp_path / "here")))
    here.ok("run", *FINER, "--stage", "features")
    barrier = threading.Barrier(2)
    both = [threading.Thread(target=finish, args=(job, barrier), daemon=True) for _ in range(2)]
    for thread in both:
        thread.start()
    all_end(both)
    finish(job, threading.Barrier(1))  # late: of a node that was thought dead
    lake = TestLake(job.root)
    made = [each.read("features").filter(patch_set=job.parameters["patch_set"]).sort(KEY) for each in (lake, here)]
    assert made[0].height > 0
    assert_frame_equal(*made, check_exact=True)
    ledger = lake.read("runs").filter(pl.col("run_id") == "a run")
    assert ledger.filter(status="ok")["slide_id"].value_counts()["count"].to_list() == [3] * 6
    lake.ok("check")
    assert lake.ok("run", *FINER, "--stage", "features", "--json").json()[0]["units"] == 0


def test_a_worker_sees_the_lake_as_its_units_were_planned(job: Job) -> None:
    con, units = open_job(job)
    assert session.versions(con) == job.versions
    list(local(job, con, units))
    again, planned = open_job(job)
    assert session.versions(again) == job.versions
    assert planned == units
    assert again.sql("from features").filter("patch_set like 'grid-32px%'").fetchall() == []


def test_a_run_that_is_left_early_keeps_what_is_done(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    con, units = open_job(job)
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0.0)
    done = local(job, con, units)
    first = next(done)
    done.close()
    kept = TestLake(job.root).read("features").filter(patch_set=job.parameters["patch_set"])
    assert first.unit.slide_id in kept["slide_id"].unique()
    assert kept["slide_id"].n_unique() < len(units)


@pytest.mark.parametrize(("name", "value"), [("COMMIT_UNITS", 2), ("COMMIT_BYTES", 1), ("COMMIT_SECONDS", 0.0)])
def test_results_wait_for_each_other_but_not_for_long(
    job: Job, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 3600.0)
    monkeypatch.setattr(commits, "SHARE", 0)
    con, units = open_job(job)
    worker = Worker(job, con)
    assert list(worker.do([units[0]])) == []
    monkeypatch.setattr(commits, name, value)
    if name == "COMMIT_SECONDS":
        assert len(worker.flush()) == 1
        assert len(list(worker.do([units[1]]))) == 1
    else:
        assert len(list(worker.do([units[1]]))) == 2
    ledger = TestLake(job.root).read("runs").filter(pl.col("run_id") == "a run")
    assert ledger["table_version"].n_unique() == (2 if name == "COMMIT_SECONDS" else 1)
    assert {json.loads(each)["patch_set"] for each in ledger["identity"]} == {job.parameters["patch_set"]}


def test_a_worker_uses_no_more_processors_than_it_is_given(
    full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 1
    with session.connect(full_lake.root, udfs=()) as con:
        assert con.sql("select current_setting('threads')").fetchall() == [(1,)]
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert cores() >= 1


HANGS = """
import time
from udfs import slide_pixels, slide_reader
slide_pixels.Slides.read = lambda *_: time.sleep(3600)
slide_reader.main()
"""


def test_a_unit_whose_slide_hangs_is_stopped_and_not_recorded(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    con, units = open_job(job)
    worker, stopped = Worker(job, con), []

    def compute() -> None:
        try:
            list(worker.do(units))
        except duckdb.InterruptException:
            stopped.append(True)

    readers.close()
    monkeypatch.setattr(slide_process, "COMMAND", (sys.executable, "-P", "-c", HANGS))
    thread = threading.Thread(target=compute)
    thread.start()
    while not readers._lent:
        assert thread.is_alive()
        time.sleep(0.02)
    until = time.monotonic() + 60
    while thread.is_alive() and time.monotonic() < until:  # as threads.side_by_side does
        worker.interrupt()
        thread.join(0.25)
    assert stopped
    assert worker.flush() == []
