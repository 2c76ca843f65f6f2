"""Slides are read by processes that may crash, hang or be starved: only what is at fault has an error."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support import ROOT, until

from udfs import slide_memory, slide_process, slide_readers, slide_requests
from udfs.errors import MachineError, SlideError
from udfs.processors import cores
from udfs.slide import Area, crop, dimensions, metadata, read_area
from udfs.slide_process import Reader, StoppedReadingError
from udfs.slide_readers import readers

EDGE = 256  # px of the slides: four tiles, whose grey level tells which they are
FAULTY = """
import os, signal, time
import numpy as np
from udfs import slide_pixels, slide_reader

def crash(): os.kill(os.getpid(), signal.SIGSEGV)
def hang(): os.kill(os.getpid(), signal.SIGSTOP)
def sleep(): time.sleep(3600)
def eat(): np.ones(2**33, np.uint8)
def nap(): time.sleep(0.5)
def spin():
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass

resample = slide_pixels._resample

def faulty(slide, area, width, height):
    if (area.x, area.y) == (128, 0):
        FAULT()
    return resample(slide, area, width, height)

slide_pixels._resample = faulty
slide_reader.main()
"""
"""A reader that has a fault at the second tile of any slide."""


@pytest.fixture(autouse=True)
def no_reader() -> Iterator[None]:
    """No test has a reader of another."""
    readers.close()
    yield
    readers.close()


@pytest.fixture
def slide(tmp_path: Path, write_slide) -> str:
    return four_greys(tmp_path / "slide.tif", write_slide)


def four_greys(path: Path, write_slide) -> str:
    pixels = np.kron([[10, 80], [150, 220]], np.ones((EDGE // 2, EDGE // 2))).astype(np.uint8)
    return write_slide(path, np.repeat(pixels[..., None], 3, axis=2))


def has_fault(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    command = (sys.executable, "-P", "-c", FAULTY.replace("FAULT", name))
    monkeypatch.setattr(slide_process, "COMMAND", command)


def tiles(path: str, *numbers: int) -> list[dict[str, object]]:
    """What crop gives of the tiles."""
    columns = [pa.array([path] * len(numbers))]
    columns += [
        pa.array([place * 128 for place in places]) for places in ([n % 2 for n in numbers], [n // 2 for n in numbers])
    ]
    columns += [pa.array([128.0] * len(numbers))] * 2 + [pa.array([16] * len(numbers), pa.int32())]
    return crop(*columns).to_pylist()


def greys(images: list[dict[str, object]]) -> list[int | None]:
    return [None if each["pixels"] is None else each["pixels"][300] for each in images]


def started_with(path: str) -> int:
    """The process that has read the slide, and waits."""
    dimensions(path)
    [pid] = readers.pids()
    return pid


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"  # its parent was killed, and nobody asked what became of it


def asked_of(pid: int, path: str) -> Future[np.ndarray]:
    """A read that the process, which is stopped, was asked for."""
    os.kill(pid, signal.SIGSTOP)
    future: Future[np.ndarray] = Future()
    threading.Thread(target=lambda: future.set_result(read_area(path, Area(0, 0, EDGE, EDGE), EDGE, EDGE))).start()
    until(lambda: not readers.pids(), "the reader is asked")
    return future


def test_a_reader_that_dies_while_it_reads_is_followed_by_another(slide: str) -> None:
    expected = read_area(slide, Area(0, 0, EDGE, EDGE), EDGE, EDGE)
    pid = started_with(slide)
    found = asked_of(pid, slide)
    os.kill(pid, signal.SIGSEGV)
    os.kill(pid, signal.SIGCONT)
    assert np.array_equal(found.result(60), expected)
    assert readers.pids() != [pid]
    assert is_gone(pid)


def test_a_reader_that_hangs_is_ended_at_its_deadline(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_area(slide, Area(0, 0, EDGE, EDGE), EDGE, EDGE)
    pid = started_with(slide)
    monkeypatch.setattr(slide_process, "STALL_SECONDS", 3.0)
    assert np.array_equal(asked_of(pid, slide).result(60), expected)
    assert is_gone(pid)


def test_of_a_batch_only_the_patch_that_crashes_the_reader_has_an_error(
    slide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_fault(monkeypatch, "crash")
    found = tiles(slide, 3, 1, 0, 2)
    assert greys(found) == [220, None, 10, 150]
    assert found[1]["error"] == (
        f"{slide}: cannot read 128 x 128 px at (128, 0) (the slide crashed its reader: SIGSEGV); "
        "copy or convert the slide again"
    )


def test_of_a_batch_only_the_patch_that_hangs_has_an_error(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has_fault(monkeypatch, "hang")
    monkeypatch.setattr(slide_process, "STALL_SECONDS", 3.0)
    found = tiles(slide, 0, 1, 2, 3)
    assert greys(found) == [10, None, 150, 220]
    assert "cannot read 128 x 128 px at (128, 0) (it took longer than 3 s)" in str(found[1]["error"])


def test_a_file_that_has_ended_three_readers_is_left_alone_until_it_changes(
    slide: str, tmp_path: Path, write_slide, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_fault(monkeypatch, "crash")
    assert greys(tiles(slide, 1, 1, 0)) == [None, None, None]
    [*_, last] = tiles(slide, 0)
    assert "SIGSEGV" in str(last["error"])
    assert "left alone" in str(last["error"])
    with pytest.raises(SlideError, match=r"cannot be opened .*left alone"):
        metadata(slide)
    readers.close()
    assert greys(tiles(slide, 0)) == [None]
    assert readers.pids() == []  # none was started for it
    other = four_greys(tmp_path / "other.tif", write_slide)
    assert greys(tiles(other, 0)) == [10]
    four_greys(Path(slide), write_slide)
    assert greys(tiles(slide, 0)) == [10]


def test_idle_readers_that_were_killed_are_nobodys_fault(slide: str) -> None:
    for _ in range(2):
        with ThreadPoolExecutor(cores() + 1) as pool:
            list(pool.map(dimensions, [slide] * 20))
        killed = readers.pids()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda killed=killed: all(map(is_gone, killed)), "they are gone")
        assert greys(tiles(slide, 0)) == [10]
        assert not set(readers.pids()) & set(killed)


def test_deaths_that_were_not_the_slides_fault_are_forgiven(slide: str) -> None:
    for _ in range(4):
        pid = started_with(slide)
        found = asked_of(pid, slide)
        os.kill(pid, signal.SIGKILL)
        assert found.result(60)[0, 0, 0] == 10


def test_a_slide_that_asks_for_absurd_memory_has_an_error_and_its_reader_lives(
    slide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_fault(monkeypatch, "eat")
    pid = started_with(slide)
    soft, _ = resource.prlimit(pid, resource.RLIMIT_AS)
    assert 2**30 < soft < 2**34
    found = tiles(slide, 0, 1)
    assert greys(found) == [10, None]
    assert "it takes more memory than a slide may" in str(found[1]["error"])
    assert readers.pids() == [pid]


@pytest.mark.slow
def test_many_threads_share_few_readers(tmp_path: Path, write_slide) -> None:
    paths = [four_greys(tmp_path / f"{number}.tif", write_slide) for number in range(5)]

    def ask(number: int) -> list[int | None]:
        return greys(tiles(paths[number % 5], *[number % 4] * 70))

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(ask, range(48)))
    assert found == [[(10, 80, 150, 220)[number % 4]] * 70 for number in range(48)]
    assert 1 <= len(readers.pids()) <= cores() + 1


@pytest.mark.slow
def test_what_is_larger_than_the_shared_memory_comes_in_parts(tmp_path: Path, write_slide) -> None:
    edge = 3000
    assert edge * edge * 3 > slide_memory.PIXEL_BYTES
    pixels = (
        np.random.default_rng(0).integers(0, 256, (edge // 10, edge // 10, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    )
    path = write_slide(tmp_path / "large.tif", pixels, tile=1024)
    assert np.array_equal(read_area(path, Area(0, 0, edge, edge), edge, edge), pixels)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="seals are Linux's")
def test_a_reader_cannot_take_the_shared_memory_away() -> None:
    descriptor = slide_memory.create()
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


def test_a_pipe_is_no_slide(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(SlideError, match="neither a file nor a folder"):
        dimensions(str(tmp_path / "pipe.tif"))


SCRIPT = """
import sys, threading, time
from udfs import slide_process
from udfs.slide import Area, dimensions, read_area
from udfs.slide_readers import readers
if len(sys.argv) > 2:
    slide_process.COMMAND = (sys.executable, "-P", "-c", sys.argv[2])
dimensions(sys.argv[1])
print(*readers.pids(), flush=True)
read_area(sys.argv[1], Area(128, 0, 128, 128), 128, 128)
print("read", flush=True)
time.sleep(60)
"""


def running(*words: str) -> tuple[subprocess.Popen[str], int]:
    """A process in a session of its own that reads a slide, and its reader."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("fault", [None, "sleep"])
def test_a_reader_ends_with_the_process_that_started_it_however_that_ended(slide: str, fault: str | None) -> None:
    """Idle, and while it reads."""
    process, reader = running(slide, *([FAULTY.replace("FAULT", fault)] if fault else []))
    assert not is_gone(reader)
    process.kill()
    process.communicate(timeout=60)
    until(lambda: is_gone(reader), "the reader is gone")


@pytest.mark.slow
def test_ctrl_c_ends_the_reader_and_nothing_is_printed_by_it(slide: str) -> None:
    process, reader = running(slide, FAULTY.replace("FAULT", "sleep"))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    os.kill(reader, signal.SIGINT)  # which it ignores
    _, printed = process.communicate(timeout=60)
    assert printed.count("Traceback") == 1
    assert printed.rstrip().endswith("KeyboardInterrupt")
    until(lambda: is_gone(reader), "the reader is gone")


FORKED = """
import os, sys
from udfs.slide import dimensions
from udfs.slide_readers import readers
dimensions(sys.argv[1])
ours = readers.pids()
child = os.fork()
if child == 0:
    dimensions(sys.argv[1])
    os._exit(0 if readers.pids() and readers.pids() != ours else 1)
_, status = os.waitpid(child, 0)
dimensions(sys.argv[1])
sys.exit(status or readers.pids() != ours)
"""


@pytest.mark.slow
def test_a_forked_process_has_readers_of_its_own(slide: str) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, slide], cwd=ROOT, check=True, timeout=60)


def test_a_reader_that_was_started_ahead_is_the_one_that_reads(slide: str) -> None:
    readers.warm()
    readers.warm()
    [pid] = readers.pids()
    assert started_with(slide) == pid


def test_a_reader_that_cannot_start_is_no_fault_of_the_slide(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(slide_process, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
        for _ in range(4):
            with pytest.raises(MachineError, match=r"has not started \(status 3\)"):
                dimensions(slide)
        patched.setattr(slide_process, "COMMAND", ("/nothing/of/this/name",))
        with pytest.raises(MachineError, match=r"no process that reads slides can start: .*No such file"):
            tiles(slide, 0)
    assert dimensions(slide) == (EDGE, EDGE)


def test_readers_get_no_credentials(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment = Path(f"/proc/{started_with(slide)}/environ")
    if not environment.exists():
        pytest.skip("only Linux tells a process's environment")
    assert b"secret" not in environment.read_bytes()


def test_the_processes_of_a_closed_pool_are_gone(slide: str) -> None:
    pid = started_with(slide)
    readers.close()
    assert is_gone(pid)
    assert slide_readers.readers.pids() == []


def test_who_waits_for_a_slide_that_hangs_can_be_stopped_and_nothing_is_held_against_it(
    slide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, ThreadPoolExecutor() as pool:
        patched.setattr(slide_process, "LOOK_SECONDS", 0.05)
        has_fault(patched, "sleep")
        for _ in range(slide_requests.MOST_ENDS + 1):
            pid = started_with(slide)
            waiting = pool.submit(tiles, slide, 1)
            until(lambda: readers._lent, "a reader is lent")
            readers.stop()
            with pytest.raises(StoppedReadingError):
                waiting.result(30)
            assert is_gone(pid)
    assert greys(tiles(slide, 1)) == [80]


def test_a_slide_whose_patches_take_a_processor_too_long_is_left_alone(
    slide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None comes too late, as of a level that is one tile of 20,000 px; a disk that is slow is another matter."""
    for name, seconds in (("PATCH_SECONDS", 0.2), ("PIXEL_SECONDS", 0.0), ("STALL_SECONDS", 0.05)):
        monkeypatch.setattr(slide_requests, name, seconds)
    for fault, last in (("nap", 150), ("spin", None)):
        has_fault(monkeypatch, fault)
        assert greys(tiles(slide, 1)) == [80]
        found = tiles(slide, 2)
        assert greys(found) == [last]
        readers.close()
    assert "its pixels take too long to decode, again and again, so that it is left alone" in str(found[0]["error"])


def test_what_a_file_did_long_ago_is_forgiven(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has_fault(monkeypatch, "crash")
    assert greys(tiles(slide, 1, 1, 0)) == [None, None, None]
    monkeypatch.setattr(slide_requests, "FORGIVEN_SECONDS", 0.0)
    assert greys(tiles(slide, 1, 1, 0)) == [None, None, 10]


def test_many_who_ask_for_a_slide_that_hangs_wait_for_few_readers(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has_fault(monkeypatch, "hang")
    monkeypatch.setattr(slide_process, "STALL_SECONDS", 1.0)
    ended, kill = [], Reader.kill
    monkeypatch.setattr(Reader, "kill", lambda reader: (ended.append(reader.pid), kill(reader)))
    many = 4 * cores() + 8
    with ThreadPoolExecutor(many) as pool:
        assert list(pool.map(lambda _: greys(tiles(slide, 1)), range(many))) == [[None]] * many
    assert len(set(ended)) <= slide_requests.MOST_ENDS + cores()


def test_a_reader_that_brings_fewer_pixels_than_it_claims_is_ended(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lie = "from udfs import slide_reader as it; it.Reader._hand_over = lambda *_: None; it.main()"
    monkeypatch.setattr(slide_process, "COMMAND", (sys.executable, "-P", "-c", lie))
    pid = started_with(slide)
    found = tiles(slide, 1)
    assert greys(found) == [None]
    assert "its reader's answer made no sense" in str(found[0]["error"])
    assert is_gone(pid)


def test_readers_whose_tidying_is_interrupted_are_not_lost(slide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(cores() + 1) as pool:
        list(pool.map(dimensions, [slide] * 20))
    pids = readers.pids()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Reader, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            readers.forget(slide)
    assert all(map(is_gone, pids))
    assert readers._count == 0  # else those who ask would wait for ever


def test_what_a_file_says_of_itself_stays_in_the_reader(slide: str) -> None:
    found = metadata(slide)
    assert (found["openslide.vendor"], found["width"]) == ("generic-tiff", str(EDGE))
    assert not [name for name in found if name.startswith("tiff.")]
