"""A process that reads slides for this one: a file that crashes or hangs a library takes only that process with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from udfs import slide_memory
from udfs.areas import FileState, Pixels
from udfs.errors import HistolakeError, MachineError
from udfs.slide_cache import LocalFile

STALL_SECONDS = 60.0  # without a further block of a level, properties, or a slide that is opened
CUT_SECONDS = 600.0  # for one cut, however it goes on: a slide of 100,000 px without smaller levels takes some minutes
LOOK_SECONDS = 0.5
START_SECONDS = 300.0  # for a reader to load its libraries, from whatever disk
MOST_ANSWER = 2**22  # bytes: of 64 errors that name the longest path
END_SECONDS = 10.0  # until a process that was killed is gone

KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # of the environment: readers need no credentials
QUIET = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PROJECT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-P", "-m", "udfs.slide_reader")


class EndedError(Exception):
    """A reader that ended over a request, or was ended: why."""


class StoppedReadingError(HistolakeError):
    """What was read is not wanted any more: no slide's fault, and nothing to record."""


class Reader:
    """A process that reads slides, for one thread at a time.

    has: the files that it may have open; a copy stays in the cache meanwhile.
    """

    def __init__(self, cache_bytes: int) -> None:
        """cache_bytes: decoded tiles that it keeps, of each of two kinds. Raises OSError if none can be had."""
        self.has: dict[FileState, LocalFile] = {}
        self.is_stopped = self._is_ready = False
        self._connection, theirs = Pipe()
        descriptor = slide_memory.create()
        try:
            self._shared = slide_memory.attach(descriptor)
            self._process = subprocess.Popen(  # noqa: S603
                [*COMMAND, str(theirs.fileno()), str(descriptor), str(cache_bytes)],
                pass_fds=(theirs.fileno(), descriptor),
                stdin=subprocess.PIPE,  # whose closing tells it that this process ended
                stdout=subprocess.DEVNULL,
                env={
                    **{name: os.environ[name] for name in KEPT if name in os.environ},
                    **QUIET,
                    "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, sys.path)]),
                },
                cwd="/",
                start_new_session=True,  # deaf to the terminal's Ctrl-C
            )
        except BaseException:
            self._connection.close()
            raise
        finally:
            theirs.close()
            os.close(descriptor)

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any], take: Callable[[Pixels], None]) -> dict[str, Any]:
        """Its answer; pixels are handed to `take` as they come, to be copied at once.

        Raises EndedError, MachineError when the process has not started, and StoppedReadingError.
        """
        self._started()
        try:
            self._connection.send_bytes(json.dumps(request).encode())
            while "more" in (answer := self._answer()):
                take(self._shared.pixels[: answer["more"]])
                self._connection.send_bytes(b"{}")
            if filled := answer.get("filled"):
                take(self._shared.pixels[:filled])
        except (EOFError, OSError):
            raise EndedError(self._ended()) from None
        except (ValueError, TypeError, AttributeError) as error:  # it has written over its own memory, perhaps
            self.kill()
            raise EndedError(f"its reader's answer made no sense: {error}") from None
        return answer

    def _started(self) -> None:
        """Wait for the process to say that it is ready, which is no slide's time."""
        until = time.monotonic() + START_SECONDS
        try:
            while not self._is_ready:
                if self._connection.poll(LOOK_SECONDS):
                    self._is_ready = bool(self._connection.recv_bytes())
                elif time.monotonic() > until:
                    raise TimeoutError
                self._raise_if_stopped()
        except (EOFError, OSError):
            self.kill()
            raise MachineError(
                f"the process that reads slides has not started (status {self._process.returncode}); "
                "its reason stands in the terminal, and `histolake doctor` looks for it"
            ) from None

    def _answer(self) -> dict[str, Any]:
        """The next message, as long as there is progress."""
        begun, block_since, cut_since = list(self._shared.begun), time.monotonic(), time.monotonic()
        while not self._connection.poll(LOOK_SECONDS):
            self._raise_if_stopped()
            now, seen = time.monotonic(), list(self._shared.begun)
            if seen != begun:
                cut_since = now if seen[slide_memory.CUTS] != begun[slide_memory.CUTS] else cut_since
                begun, block_since = seen, now
            for since, most in ((block_since, STALL_SECONDS), (cut_since, CUT_SECONDS)):
                if now - since > most:
                    self.kill()
                    raise EndedError(f"it took longer than {most:g} s")
        answer: dict[str, Any] = json.loads(self._connection.recv_bytes(MOST_ANSWER))
        return answer

    def stop(self) -> None:
        """Have the thread that waits for an answer go on without one; for another thread to call."""
        self.is_stopped = True

    def _raise_if_stopped(self) -> None:
        if self.is_stopped:
            raise StoppedReadingError("reading was stopped; the same command goes on")

    def kill(self) -> None:
        """End the process."""
        self._process.kill()
        self._connection.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.has.clear()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk, and goes then
            self._process.wait(END_SECONDS)

    def _ended(self) -> str:
        """How the process ended that closed its end of the connection."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        code = self._process.returncode
        self.kill()
        if code is None or code >= 0:
            return f"the slide ended its reader, status {code}"
        return f"the slide crashed its reader: {signal.Signals(-code).name}"
