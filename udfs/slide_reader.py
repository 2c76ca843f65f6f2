"""The process that reads slides: what a file makes of the libraries that decode it befalls this process alone.

It answers one request at a time, JSON on a connection, with pixels by memory that it shares with its parent
(`udfs/slide_process.py`), and ends with the connection: however the parent ended.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from udfs import slide_memory, slide_pixels
from udfs.areas import Area, Cut, FileState, Pixels
from udfs.errors import SlideError
from udfs.slide_memory import BLOCKS, CUTS, PIXEL_BYTES, SharedMemory
from udfs.slide_pixels import Slides

MEMORY_BYTES = 3 * 2**30  # that reading may take
ALARM_SECONDS = 660  # for a cut, after which the kernel ends the process, should the parent be gone

Request = dict[str, Any]


def main() -> None:
    """Answer requests; the command line has descriptors of connection and memory, and bytes of tiles to keep."""
    connection, memory, cache_bytes = map(int, sys.argv[1:])
    logging.disable()  # what tifffile says of an odd file
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and ends this process by ending
    confine()
    threading.Thread(target=end_with_parent, daemon=True).start()
    Reader(Connection(connection), slide_memory.attach(memory), Slides(cache_bytes)).serve()


def end_with_parent() -> None:
    """End also while a slide is read: the parent's end of the pipe closes however it ended."""
    sys.stdin.buffer.read()
    os._exit(0)


def confine() -> None:
    """Have the kernel refuse absurd amounts of memory, and keep pixels out of files that tell of a crash."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere the kernel does not heed the limit
        mapped = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = mapped + MEMORY_BYTES
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


class Reader:
    """Answers what comes on the connection."""

    def __init__(self, connection: Connection, shared: SharedMemory, slides: Slides) -> None:
        self._connection, self._shared, self._slides = connection, shared, slides
        self._filled = 0  # bytes of the shared pixels
        slide_pixels.blocks_begun = shared.begun[BLOCKS:]

    def serve(self) -> None:
        """Answer until the parent ends."""
        does: dict[str, Callable[..., Request]] = {
            "close": self._close,
            "size": self._size,
            "properties": self._properties,
            "read": self._read,
        }
        self._send({"is_ready": True})
        while True:
            request = self._receive()
            answer = does[request["do"]](**request["with"])
            signal.alarm(0)
            self._send(answer)

    def _receive(self) -> Request:
        try:
            request: Request = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)
        return request

    def _send(self, answer: Request) -> None:
        try:
            self._connection.send_bytes(json.dumps(answer).encode())
        except OSError:
            os._exit(0)

    def _close(self, states: list[list[Any]]) -> Request:
        self._slides.close(map(_state, states))
        return {}

    def _size(self, path: str, state: list[Any]) -> Request:
        return self._found(lambda: self._slides.dimensions(path, _state(state)))

    def _properties(self, path: str, state: list[Any]) -> Request:
        return self._found(lambda: self._slides.metadata(path, _state(state)))

    def _found(self, find: Callable[[], object]) -> Request:
        self._begin()
        try:
            return {"found": find()}
        except SlideError as error:
            return {"error": str(error)}

    def _read(self, path: str, state: list[Any], cuts: list[list[float]]) -> Request:
        """What kept each cut from being read, or None; the pixels of the others, one after the other."""
        errors: list[str | None] = []
        start = time.process_time()
        for x, y, span_x, span_y, width, height in cuts:
            self._begin()
            try:
                cut = Cut(Area(x, y, span_x, span_y), int(width), int(height))
                self._hand_over(self._slides.read(path, _state(state), cut))
            except SlideError as error:
                errors.append(str(error))
            else:
                errors.append(None)
        filled, self._filled = self._filled, 0
        return {"errors": errors, "filled": filled, "seconds": time.process_time() - start}

    def _begin(self) -> None:
        self._shared.begun[CUTS] += 1
        signal.alarm(ALARM_SECONDS)

    def _hand_over(self, pixels: Pixels) -> None:
        rest = pixels.reshape(-1)
        while rest.size:
            if self._filled == PIXEL_BYTES:
                self._send({"more": PIXEL_BYTES})
                self._receive()
                self._filled = 0
            part, rest = np.split(rest, [PIXEL_BYTES - self._filled])
            self._shared.pixels[self._filled : self._filled + part.size] = part
            self._filled += part.size


def _state(listed: list[Any]) -> FileState:
    file, inode, time, size = listed
    return file, inode, time, size


if __name__ == "__main__":
    main()
