"""The readers of this process: as many as threads ask at once, and the files that they keep open."""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from udfs.areas import FileState
from udfs.cache_room import idle_holders
from udfs.errors import MachineError
from udfs.exhaustion import raise_if_exhausted
from udfs.processors import cores
from udfs.slide_cache import LocalFile
from udfs.slide_process import EndedError, Reader

OPEN_SLIDES = 16  # files that readers keep open,
OPEN_COPIES = 2  # and of them, those of fetched slides, which the cache cannot delete meanwhile
CACHE_BYTES = 192 * 2**20  # decoded tiles, of all readers: two rows of tiles of a slide 130,000 px wide
LEAST_CACHE_BYTES = 16 * 2**20  # of one of many
WHERE = "no process that reads slides can start"
WAIT_SECONDS = 0.25  # Ctrl-C is seen between waits only, see docs/engine-notes.md


class Readers:
    """Lends readers to threads."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._idle: list[Reader] = []
        self._lent: set[Reader] = set()
        self._count = 0
        self._kept: OrderedDict[FileState, LocalFile] = OrderedDict()  # the last of them used last

    @contextmanager
    def lend(self, state: FileState, file: LocalFile) -> Iterator[Reader]:
        """A reader for a request about a file; one that has it open if such a one is idle.

        It is ended when the request fails, for nobody knows then what it will say next.
        """
        has_new_copies = self._keep(state, file)
        reader = self._take(state)
        try:
            with self._news:
                self._lent.add(reader)
            self._close_others(reader)
            reader.has[state] = file
            yield reader
        except BaseException:
            self._end(reader)
            raise
        if reader.is_stopped:  # too late, and the next who asks shall have an answer
            self._end(reader)
        else:
            self._give_back(reader)
        if has_new_copies:
            self._tidy()

    def warm(self) -> None:
        """Have a reader start while nobody waits for it yet."""
        with self._news:
            is_first = self._count == 0
            self._count += is_first
        if is_first:
            self._give_back(self._started())

    def forget(self, file: str) -> None:
        """Have readers that are idle close a file; a busy one does so when it is done."""
        with self._news:
            for state in [state for state in self._kept if state[0] == os.path.abspath(file)]:
                del self._kept[state]
        self._tidy()

    def stop(self) -> None:
        """Have those who wait for a reader's answer go on without: they get a StoppedReadingError."""
        with self._news:
            for reader in self._lent:
                reader.stop()

    def close(self) -> None:
        """End the readers that are idle."""
        with self._news:
            self._kept.clear()
            idle, self._idle = self._idle, []
        for reader in idle:
            self._end(reader)

    def pids(self) -> list[int]:
        """Of the readers that are idle."""
        with self._news:
            return [reader.pid for reader in self._idle]

    def _keep(self, state: FileState, file: LocalFile) -> bool:
        """Note that the file is used; whether it is a copy that was not kept before."""
        with self._news:
            is_new = state not in self._kept
            self._kept[state] = file
            self._kept.move_to_end(state)
            copies = [each for each, kept in self._kept.items() if kept.is_copy]
            for each in copies[:-OPEN_COPIES]:
                del self._kept[each]
            while len(self._kept) > OPEN_SLIDES:
                self._kept.popitem(last=False)
        return is_new and file.is_copy

    def _take(self, state: FileState) -> Reader:
        with self._news:
            while not self._idle and self._count > cores():
                self._news.wait(WAIT_SECONDS)
            self._bury()
            if self._idle:
                best = max(reversed(self._idle), key=lambda reader: state in reader.has)  # of equals the last used
                self._idle.remove(best)
                return best
            self._count += 1
        return self._started()

    def _bury(self) -> None:
        """Forget idle readers that ended, which is no slide's fault: for want of memory, most likely."""
        for reader in [reader for reader in self._idle if not reader.is_alive]:
            reader.kill()  # which closes its connection
            self._idle.remove(reader)
            self._count -= 1

    def _started(self) -> Reader:
        """A new reader, which is counted already. Raises MachineError when the machine has no room for it."""
        try:
            return Reader(max(LEAST_CACHE_BYTES, CACHE_BYTES // (cores() + 1)))
        except BaseException as error:
            with self._news:
                self._count -= 1
            if isinstance(error, OSError):
                raise_if_exhausted(error, WHERE)
                raise MachineError(f"{WHERE}: {error}") from error
            raise

    def _give_back(self, reader: Reader) -> None:
        with self._news:
            self._lent.discard(reader)
            self._idle.append(reader)
            self._news.notify()

    def _end(self, reader: Reader) -> None:
        reader.kill()
        with self._news:
            self._lent.discard(reader)
            self._count -= 1
            self._news.notify()

    def _close_others(self, reader: Reader) -> None:
        """Have the reader close what is not kept any more."""
        with self._news:
            others = [state for state in reader.has if state not in self._kept]
        if others:
            reader.ask({"do": "close", "with": {"states": others}}, lambda _: None)
            for state in others:
                del reader.has[state]

    def _tidy(self) -> None:
        """Have all that are idle close what is not kept any more."""
        with self._news:
            idle, self._idle = self._idle, []
        while idle:
            reader = idle.pop(0)
            try:
                self._close_others(reader)
            except EndedError:
                self._end(reader)
            except BaseException:
                for each in (reader, *idle):
                    self._end(each)
                raise
            else:
                self._give_back(reader)


readers = Readers()
idle_holders.append(readers.forget)
atexit.register(readers.close)
os.register_at_fork(after_in_child=readers.__init__)  # type: ignore[misc]
