"""What tests share: small real slides, annotations, and the command line on a lake."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl

from lake import choices, cli, store
from lake.pyramid import write_pyramid

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

Box = tuple[int, int, int, int]  # x, y, width, height, level-0 px

GLASS, STROMA, TUMOR = (243, 243, 243), (226, 150, 190), (120, 60, 150)


def write_slide(
    path: Path,
    *,
    tissue: Box = (256, 128, 512, 512),
    tumor: Box | None = None,
    size: tuple[int, int] = (1024, 768),
    mpp: float = 1.0,
) -> Path:
    """A white slide with a rectangle of pink tissue and, in it, one of purple tumor, with its ASAP XML beside it.

    Slides of different names differ in their noise: the same content under two names would be one slide.
    """
    rng = np.random.default_rng(list(path.stem.encode()))
    pixels = np.full((size[1], size[0], 3), GLASS, np.float32)
    for box, colour in ((tissue, STROMA), (tumor, TUMOR)):
        if box is not None:
            x, y, width, height = box
            pixels[y : y + height, x : x + width] = colour
            pixels[y : y + height, x : x + width] += rng.normal(0, 12, (height, width, 1))
    write_pyramid(path, pixels.clip(0, 255).astype(np.uint8), mpp=mpp, description="test slide")
    path.with_suffix(".xml").write_text(asap([("Tumor", tumor)] if tumor else []))
    return path


def asap(boxes: list[tuple[str, Box]]) -> str:
    """ASAP XML of rectangles, each in its group."""
    shapes = []
    for number, (group, (x, y, width, height)) in enumerate(boxes):
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        points = "".join(f'<Coordinate Order="{i}" X="{a}" Y="{b}"/>' for i, (a, b) in enumerate(corners))
        head = f'<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}">'
        shapes.append(f"{head}<Coordinates>{points}</Coordinates></Annotation>")
    return f"<ASAP_Annotations><Annotations>{''.join(shapes)}</Annotations></ASAP_Annotations>"


# -- other processes, none of which is waited for without an end

RUN_S, UNTIL_S = 240.0, 60.0


def run(
    words: Sequence[str | Path], *, timeout: float = RUN_S, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in the repository unless `options` say otherwise; all that it printed is kept.

    What it started and left behind is killed, and it, too, when it takes longer than `timeout`, seconds.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, **{"cwd": ROOT, **options}, **pipes, text=True, start_new_session=True)
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        assert done.returncode == 0, (words, done.returncode, out, err)
    return done


def until(holds: Callable[[], object], what: str, seconds: float = UNTIL_S) -> None:
    """Wait until something holds; what: it in words, when it does not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it never came true: {what}"
        time.sleep(0.05)


def grows_in_proportion(work: Callable[[int], object], size: int) -> bool:
    """Whether four times as much takes about four times as long, of this process's processor time, and not sixteen.

    Best of three: others of the machine's processes slow it down, too.
    """

    def seconds(size: int) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            work(size)
            times.append(time.process_time() - began)
        return min(times)

    return seconds(4 * size) < 8 * seconds(size)


def all_end(started: Sequence[Thread | BaseProcess], seconds: float = RUN_S) -> None:
    """Threads or processes of this one end within so many seconds, processes well; what does not is killed."""
    deadline = time.monotonic() + seconds
    for each in started:
        each.join(max(0.0, deadline - time.monotonic()))
    late = [each for each in started if each.is_alive()]
    for each in late:
        if isinstance(each, BaseProcess):
            each.kill()
    assert not late
    assert [each.exitcode for each in started if isinstance(each, BaseProcess) and each.exitcode] == []


def free_port() -> int:
    """A port of the loopback address that nothing listens on; below 32768, so that no connection takes it."""
    first = 20000 + 3000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])  # each worker has its own
    for port in range(first + os.getpid() % 2000, first + 3000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise OSError("no free port")


_given: set[int] = set()


@dataclass
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, parsed."""
        return json.loads(self.out)


def run_command(*words: str) -> Answer:
    """Run `histolake WORDS` in this process; what it printed and its exit status."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["histolake", *words]
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = before
        choices.tracing.on = False
    return Answer(status, out.getvalue(), err.getvalue())


def refused(answer: Answer, *words: str) -> None:
    """The answer is one line of refusal that holds all the words, and no traceback."""
    lines = [line for line in answer.err.splitlines() if line.startswith(("histolake:", "failed:"))]
    assert answer.status == 1, answer
    assert len(lines) == 1, answer.err
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in answer.err


@dataclass
class TestLake:
    """A lake and the command line on it."""

    __test__ = False

    root: Path
    tiling: tuple[str, ...] = ("--patch-px", "64", "--mpp", "1", "--encoder", "tiny")

    def __call__(self, *words: str) -> Answer:
        """Run a command on this lake."""
        return run_command(*words, "--lake", str(self.root))

    def ok(self, *words: str) -> Answer:
        """Run a command on this lake that must succeed."""
        answer = self(*words)
        assert answer.status == 0, answer.err
        return answer

    def read(self, table: str) -> pl.DataFrame:
        """All rows of a table as it is now, by Polars alone."""
        return store.rows(self.root, table)

    def versions(self) -> dict[str, int]:
        """The newest Delta version of every table."""
        return {
            path.parent.name: store.open_table(self.root, path.parent.name).version()
            for path in self.root.glob("*/_delta_log")
        }
