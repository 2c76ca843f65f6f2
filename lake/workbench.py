"""Runs a person's statement on a lake, read-only, in a process of its own that can be ended at any moment."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from lake import storage
from udfs.errors import LakeError, QueryError

AT_ONCE = 4  # statements of all persons together
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # of the environment: nothing else is handed on
QUIET = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
PROJECT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-P", "-s", "-m", "lake.workbench_child")
START_S = 60  # for a process to open the lake: its statement's time begins thereafter
STARTED = b"started\n"  # what a process says when it has opened the lake
GRACE_S = 5  # for a process that says no more to end by itself


@dataclass(frozen=True)
class Limits:
    """What one statement may use.

    rows, bytes: of the result; more is cut off, and said. memory_mb: MiB that its process may take beyond what it
    takes idle; DuckDB gets half. seconds: on the clock, from when the lake is open; then the process is killed.
    """

    rows: int = 10_000
    bytes: int = 16 * 2**20
    memory_mb: int = 2_048
    seconds: float = 30.0


@dataclass(frozen=True)
class Result:
    """The first rows of an answer.

    types: DuckDB's, one a column. cut: the limit that cut it, 'rows' or 'bytes', or None when it is whole.
    versions: of every table that the statement could see. seconds: from the order to the answer.
    """

    frame: pl.DataFrame
    types: tuple[str, ...]
    cut: str | None
    versions: dict[str, int]
    seconds: float


class Running:
    """A statement that runs, or has run: ask `is_done`, `result`; `cancel` ends it. Made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], statement: str, request: bytes, limits: Limits) -> None:
        self.statement = statement
        self._process = process
        self._limits = limits
        self._started = time.monotonic()
        self._ended: str | None = None  # why it was killed
        self._result: Result | None = None
        self._error: QueryError | None = None
        self._thread = threading.Thread(target=self._follow, args=(request,), daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Since the order; of an answered statement, until its answer."""
        return self._result.seconds if self._result else time.monotonic() - self._started

    @property
    def is_done(self) -> bool:
        """Whether there is an answer, or never will be."""
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Return when it is done, or after so many seconds."""
        self._thread.join(seconds)

    def cancel(self) -> None:
        """End the statement at once; nothing happens when it is done."""
        self._kill("the statement was cancelled")

    def result(self) -> Result:
        """The answer, waited for. Raises QueryError when there is none, saying why."""
        self._thread.join()
        if self._result is None:
            raise self._error or QueryError("the statement has no answer; run it again")
        return self._result

    def _kill(self, why: str) -> None:
        if self._process.poll() is None:
            self._ended = self._ended or why
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _follow(self, request: bytes) -> None:
        """Hand the statement over, read the answer, and see the process end."""
        try:
            self._result = self._read(self._exchange(request))
        except QueryError as error:
            self._error = error
        finally:
            self._kill("it had answered")
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # of what it did not read
                    self._process.stdin.close()
            _places.release()

    def _exchange(self, request: bytes) -> bytes:
        order, answer = self._process.stdin, self._process.stdout
        if order is None or answer is None:
            raise QueryError("the process has no pipes")
        with answer:  # the order's pipe stays open: the process ends when this one does
            with self._deadline(START_S, f"the lake was not open after {START_S} s; try again"):
                with contextlib.suppress(BrokenPipeError):  # it has ended, and why is told from its silence
                    order.write(request)
                    order.flush()
                first = answer.readline()
            with self._deadline(self._limits.seconds, self._too_long()):
                rest = answer.read(4 * self._limits.bytes + 2**20)
        return rest if first == STARTED else first + rest

    @contextlib.contextmanager
    def _deadline(self, seconds: float, why: str) -> Iterator[None]:
        timer = threading.Timer(seconds, self._kill, [why])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _too_long(self) -> str:
        return f"the statement was stopped after {self._limits.seconds:g} s; narrow it, e.g. by a slide or a limit"

    def _read(self, answer: bytes) -> Result:
        head, newline, body = answer.partition(b"\n")
        if not newline:
            raise QueryError(self._silence())
        header = json.loads(head)
        if "error" in header:
            raise QueryError(header["error"])
        if len(body) != header["length"]:
            raise QueryError(self._silence())
        frame = pl.read_ipc_stream(io.BytesIO(body))
        taken = time.monotonic() - self._started
        return Result(frame, tuple(header["types"]), header["cut"], header["versions"], taken)

    def _silence(self) -> str:
        """Why the process ended without a whole answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        code = self._process.returncode
        if self._ended:
            return self._ended
        if code is not None and -code in (signal.SIGXCPU, signal.SIGALRM):
            return self._too_long()
        if code is not None and code < 0:
            return (
                f"the statement's process was ended by {signal.Signals(-code).name}, most likely for lack of memory "
                f"(the limit is {self._limits.memory_mb:,} MB); narrow it, e.g. by a slide or a limit"
            )
        return "the statement's process failed; the reason stands in the terminal of the app"


def start(
    root: Path,
    statement: str,
    limits: Limits = Limits(),
    *,
    at: Mapping[str, int] | None = None,
) -> Running:
    """Begin to run a statement on the lake at `root`; returns at once.

    at: the Delta version of single tables to read, as of `lake.connect`; {"runs": N} is the whole lake as the ledger's
    version N knew it. Raises QueryError when too many statements run already.
    """
    if sys.platform == "win32":
        raise QueryError("Windows cannot limit what a process uses: this needs Linux or macOS; use `histolake sql`")
    if not _places.acquire(blocking=False):
        raise QueryError(f"{AT_ONCE} statements are running already; try again when one of them is done")
    order = {"statement": statement, "at": dict(at or {}), "limits": asdict(limits)}
    try:
        order["access"] = storage.access(root)  # anew: the process may have waited until its own ran out
        return Running(_take(root), statement, json.dumps(order).encode() + b"\n", limits)
    except (OSError, LakeError) as error:
        _places.release()
        raise QueryError(f"no process can be started: {error}") from error


def warm(root: Path) -> None:
    """Have a process ready that has opened the lake and waits for a statement: starting one takes a second or two."""
    global _spare
    with _lock:
        if _spare is None or _spare[0] != root or _spare[1].poll() is not None:
            if _spare is not None:
                with _spare[1] as other:
                    other.kill()
            _spare = (root, _spawn(root))


_lock = threading.Lock()
_places = threading.BoundedSemaphore(AT_ONCE)
_spare: tuple[Path, subprocess.Popen[bytes]] | None = None


def _take(root: Path) -> subprocess.Popen[bytes]:
    """The waiting process, if it waits on this lake, else a new one."""
    global _spare
    with _lock:
        if _spare is not None and _spare[0] == root and _spare[1].poll() is None:
            process, _spare = _spare[1], None
            return process
    return _spawn(root)


def _spawn(root: Path) -> subprocess.Popen[bytes]:
    access = json.dumps(storage.access(root)).encode() + b"\n"
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    process = subprocess.Popen(  # noqa: S603
        [*COMMAND, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, **QUIET, "PYTHONPATH": str(PROJECT)},
        cwd="/",
        start_new_session=True,  # a group of its own: killed as a whole, and deaf to the terminal's Ctrl-C
    )
    if process.stdin is not None:  # by the pipe: what stands in an environment, others may read
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(access)
            process.stdin.flush()
    return process
