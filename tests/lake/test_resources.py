"""Machines that run out of disk, memory or open files, lakes that may only be read, writers and readers at once.

Limits are the kernel's own: a small file system where one may be mounted, else limits of a child process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from delta_writers import write
from support import ROOT, TestLake, run, write_slide

from lake import connect, upkeep
from lake.compute import raise_if_general
from lake.storage_faults import read_failure
from udfs.errors import StorageError

resource = pytest.importorskip("resource")

PR_CAPBSET_DROP = 24  # of Linux's prctl,
DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER = 1, 2, 3  # and of its capabilities
KB = 1024
LEFT_KB = (1, 16, 128)  # room on the disk, for what a command writes: one kind of file after the other
FULL = ("is full", "No space left", "File too large")  # every refusal for want of room has one
COMMAND_S = 250  # within which a command ends
Prepare = Callable[[], None]


def histolake(
    *words: str, prepare: Prepare | None = None, timeout: float = COMMAND_S
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which `prepare` limits."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500"}
    call = [sys.executable, "-m", "lake", *words]
    return run(call, env=environment, preexec_fn=prepare, timeout=timeout)


def told(answer: subprocess.CompletedProcess[str], *words: str) -> str:
    """The command failed, and said why in one line, which has these words; returns it."""
    assert answer.returncode == 1, (answer.returncode, answer.stdout, answer.stderr)
    lines = [line for line in answer.stderr.splitlines() if line.startswith("histolake: ")]
    assert len(lines) == 1, answer.stderr
    assert "Traceback" not in answer.stderr
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


def whole(lake: TestLake) -> None:
    """What a reader sees keeps all promises."""
    answer = lake("check")
    assert answer.status == 0, answer.out + answer.err


# -- a full disk


@pytest.fixture(params=["a small file system", "a limit on the size of files"])
def squeezed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], Prepare | None]]]:
    """A folder, and `leave(kilobytes)`: from now on there is room for so much in it; what prepares the next command.

    A limit on the size of files is another thing than a full disk, but the kernel's answer to a write is as real.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "a limit on the size of files":

        def limit(kilobytes: int) -> Prepare:
            return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * KB, kilobytes * KB))

        yield folder, limit
        return
    if run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder]).returncode:
        pytest.skip("no file system may be mounted here")
    try:

        def fill(kilobytes: int) -> None:
            (folder / "filling").unlink(missing_ok=True)
            room = os.statvfs(folder)
            with (folder / "filling").open("wb") as filling:
                filling.truncate(0)
                os.posix_fallocate(filling.fileno(), 0, max(1, room.f_bavail * room.f_frsize - kilobytes * KB))

        yield folder, fill
    finally:
        run(["umount", "--lazy", folder], check=True)  # DuckDB may hold files of it


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_is_told_in_a_sentence_and_the_same_command_goes_on_later(
    lake: TestLake, tmp_path: Path, squeezed: tuple[Path, Callable[[int], Prepare | None]]
) -> None:
    """Every command is tried with more and more room, so that every kind of file is the one that does not fit."""
    disk, leave = squeezed
    slides = tmp_path / "slides"
    slides.mkdir()
    for number, split in enumerate(("train", "train", "validation", "test")):
        write_slide(slides / f"s{number}.tif", tumor=(320, 192, 128, 256))
        (slides / "manifest.csv").open("a").write(("" if number else "slide_id,split\n") + f"s{number},{split}\n")
    root = Path(shutil.copytree(lake.root, disk / "lake"))
    here = TestLake(root)
    failures = 0
    for words in (
        ("ingest", str(slides), "--annotations", str(slides), "--manifest", str(slides / "manifest.csv")),
        ("run", *lake.tiling),
        ("train", "--encoder", "tiny"),
        ("predict",),
        ("evaluate",),
        ("heatmap", "s1", "--out", str(disk / "s1.png")),
        ("heatmap", "s1", "--out", str(disk / "s1.tif")),
        ("export", "predictions", "--slide", "s1", "--out", str(disk / "s1.geojson")),
    ):
        for kilobytes in LEFT_KB:
            answer = histolake(*words, "--lake", str(root), prepare=leave(kilobytes))
            (disk / "filling").unlink(missing_ok=True)
            if answer.returncode == 0:
                break
            assert any(each in told(answer) for each in FULL), answer.stderr
            failures += 1
            assert "--out" not in words or not Path(words[-1]).exists()
            assert not list(disk.glob(".*"))
            if "--out" not in words:
                whole(here)
        else:
            answer = histolake(*words, "--lake", str(root))
        assert answer.returncode == 0, answer.stderr
        if "--out" not in words:
            whole(here)
    assert failures >= 8
    assert here.read("features").height == here.read("patches").height == here.read("predictions").height > 0
    assert here.read("runs").filter(status="failed").is_empty()
    assert here.read("models").height == 1


# -- memory and open files


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_few_open_files_are_told_and_no_slide_is_blamed(full_lake: TestLake, slides: Path) -> None:
    words = ("run", "--patch-px", "32", "--mpp", "1", "--encoder", "tiny", "--lake", str(full_lake.root))
    outcomes = set()
    for most in (24, 40, 64, 128):
        answer = histolake(*words, prepare=lambda most=most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)))
        outcomes.add(answer.returncode)
        if answer.returncode:
            told(answer, "too many files are open")
        whole(full_lake)
    assert outcomes == {0, 1}
    full_lake.ok(*words[:-2])
    assert full_lake.read("runs").filter(status="failed").is_empty()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_too_little_memory_leaves_nothing_half_and_no_slide_is_blamed(full_lake: TestLake) -> None:
    """What is below us may abort the process, and then nobody can say anything: what is there is whole all the same.

    Or it waits for ever, and somebody has to end it: Python's `Thread.start` for a thread of Polars' that died for want
    of memory before it could say that it had begun (seen at 2,200 MB).
    """
    words = ("run", "--patch-px", "16", "--mpp", "1", "--encoder", "tiny", "--lake", str(full_lake.root))
    ends = set()
    for megabytes in (1800, 2600, 3000):
        most = megabytes * KB * KB

        def limit(most: int = most) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

        try:
            answer = histolake(*words, prepare=limit, timeout=100)
        except subprocess.TimeoutExpired:
            ends.add("waits")
        else:
            panicked = "PanicException" in answer.stderr  # of Polars, in Rust
            if answer.returncode == 1 and not panicked:
                told(answer, "memory is used up")
            ends.add("panics" if panicked else answer.returncode)
        whole(full_lake)
    assert 1 in ends
    assert ends <= {0, 1, -signal.SIGABRT, -signal.SIGSEGV, "waits", "panics"}, ends
    full_lake.ok(*words[:-2])
    assert full_lake.read("runs").filter(status="failed").is_empty()


# -- a lake that may only be read


def as_anybody() -> None:
    """Of root take the power to write where the mode forbids it; others have none."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for power in (DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER):
        if os.getuid() == 0 and prctl(PR_CAPBSET_DROP, power, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


@pytest.fixture
def read_only(full_lake: TestLake) -> Iterator[TestLake]:
    """The finished lake, in which nobody may write."""
    files = [full_lake.root, *full_lake.root.rglob("*")]
    for file in files:
        file.chmod(file.stat().st_mode & ~0o222)
    yield full_lake
    for file in files:
        file.chmod(file.stat().st_mode | 0o200)


@pytest.mark.slow
def test_who_may_only_read_a_lake_reads_it_and_is_told_when_writing(read_only: TestLake, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in read_only.root.rglob("*")}
    lake, out = ("--lake", str(read_only.root)), tmp_path
    for words in (
        ("sql", "select count(*) from current_predictions"),
        ("check",),
        ("history",),
        ("models", "list"),
    ):
        answer = histolake(*words, *lake, prepare=as_anybody)
        assert answer.returncode == 0, (words, answer.stderr)
    for words in (
        ("heatmap", "tumor_1", "--out", str(out / "tumor_1.png")),
        ("export", "hotspots", "--out", str(out / "hotspots")),
    ):
        told(histolake(*words, *lake, prepare=as_anybody), "It was not done, for it cannot be recorded")
    assert not [*out.glob("tumor_1*"), *out.glob("hotspots*")]
    for words in (
        ("ingest", str(read_only.root.parent / "slides")),
        ("run", "--patch-px", "32", "--mpp", "1", "--encoder", "tiny"),
        ("train", "--encoder", "tiny", "--calibration", "temperature"),
        ("review", "tumor_1", "300", "200", "normal", "--reviewer", "nobody"),
        ("groups", "set", "new", "tumor"),
        ("optimize", "runs"),
        ("maintain",),
        ("encoders", "add", "again", "--onnx", str(next(read_only.root.glob("onnx/*/encoder.onnx")))),
    ):
        answer = histolake(*words, *lake, prepare=as_anybody)
        told(answer)
        assert "Permission denied" in answer.stderr or "may only be read" in answer.stderr, answer.stderr
    assert {file: file.stat().st_mtime_ns for file in read_only.root.rglob("*")} == before


@pytest.mark.slow
def test_the_app_shows_a_lake_that_may_only_be_read(read_only: TestLake, tmp_path: Path) -> None:
    """All pages, in a process that cannot write there; a slide is not shown, for nobody could tell who saw it."""
    code = """
    import streamlit as st
    from streamlit.testing.v1 import AppTest
    type(st.context).ip_address = None  # this machine: the tester has no connection
    for page in ("worklist", "viewer", "models", "sql", "lineage"):
        app = AppTest.from_file("viewer/navigation/main.py", default_timeout=120).run()
        app.switch_page(f"../pages/{page}.py")
        app.query_params["slide"] = "tumor_1"
        app.run()
        print(page, len(app.exception), [each.value for each in app.error])
    """
    named = {"HISTOLAKE_LAKE": str(read_only.root), "HISTOLAKE_APP_ROLE": "analyst", "HOME": str(tmp_path)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **named}
    done = run([sys.executable, "-c", textwrap.dedent(code)], env=environment, preexec_fn=as_anybody)
    pages = done.stdout.splitlines()
    said = pages.pop(1)
    assert pages == [f"{page} 0 []" for page in ("worklist", "models", "sql", "lineage")], done.stdout + done.stderr
    assert said.startswith("viewer 0 [")
    assert "It was not done, for it cannot be recorded" in said


# -- writers and readers at once


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_writers_with_other_parameters_and_failures_to_retry_end_equal_to_one_after_the_other(
    full_lake: TestLake, slides: Path
) -> None:
    broken = slides / "broken.tif"
    write_slide(broken, size=(4096, 4096), tissue=(0, 0, 4096, 4096))
    content = broken.read_bytes()
    full_lake.ok("ingest", str(broken))
    broken.write_bytes(content[: len(content) // 2])
    os.utime(broken, (0, 0))
    base = [sys.executable, "-m", "lake", "run", "--mpp", "1", "--encoder", "tiny", "--retry-failed"]
    calls = [[*base, "--patch-px", px, "--lake", str(full_lake.root)] for px in ("32", "48", "32")]
    for _ in range(2):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        started = [subprocess.Popen(call, cwd=ROOT, **pipes) for call in calls]
        for process in started:
            _, said = process.communicate(timeout=250)
            assert b"Traceback" not in said, said
        whole(full_lake)
        broken.write_bytes(content)
    full_lake.ok("ingest", str(broken), "--retry-failed")
    for px in ("32", "48"):
        full_lake.ok("run", "--mpp", "1", "--encoder", "tiny", "--retry-failed", "--patch-px", px)
        patches = full_lake.read("patches").filter(pl.col("patch_set").str.starts_with(f"grid-{px}px"))
        features = full_lake.read("features").filter(pl.col("patch_set").str.starts_with(f"grid-{px}px"))
        assert features.select("slide_id", "x", "y").n_unique() == features.height == patches.height > 100
        assert features["error"].null_count() == features.height
    whole(full_lake)


def test_a_reader_of_an_older_snapshot_is_told_when_its_files_were_vacuumed(full_lake: TestLake) -> None:
    root, count = full_lake.root, "select count(probability) from predictions"
    write(root, "other", 3)
    with connect(root) as con:
        before = con.sql(count).fetchall()
        write(root, "other", 2)
        full_lake.ok("maintain", "--keep-hours", "24")
        assert con.sql(count).fetchall() == before  # what is kept is read on
        assert upkeep.vacuum(root, "predictions", 0) > 0
        with pytest.raises(duckdb.Error) as raised:
            con.sql("select sum(probability) from predictions").fetchall()
    sentence = str(read_failure(raised.value))
    assert "histolake vacuum" in sentence
    assert "do it again" in sentence
    with pytest.raises(StorageError):  # a run stops for it, and calls no unit failed
        raise_if_general(raised.value)
    assert connect(root).sql(count).fetchall() == [(before[0][0] - 1,)]
