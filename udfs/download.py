"""Fetches one file: resumed where it broke off, of one version, of the length that was promised."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from udfs.errors import FetchError
from udfs.remote import BrokenError, ChangedError, RemoteFile, store_of

TRIES = 5  # in a row that bring nothing
FIRST_PAUSE = 0.5  # seconds before the second; twice as long before each further one


class StoppedError(FetchError):
    """The fetching was stopped; what came is kept."""


def served(address: str, stop: threading.Event) -> list[RemoteFile]:
    """The files of a slide as they are served now, see `remote.Store`.

    Raises BrokenError when the server stays out of reach, StoppedError after `stop` is set, else FetchError.
    """
    for attempt in range(TRIES - 1):
        try:
            return store_of(address).files(address)
        except BrokenError:
            if stop.wait(FIRST_PAUSE * 2**attempt):
                raise StoppedError(f"{address}: the download was stopped") from None
    try:
        return store_of(address).files(address)
    except BrokenError as error:
        raise BrokenError(f"{error}, in {TRIES} tries; try again later") from None


def download(file: RemoteFile, target: Path, came: Callable[[int], None], stop: threading.Event) -> None:
    """Complete `target`, which may hold a beginning of this version of the file, and have the disk keep it.

    came: called with the bytes held so far. Raises ChangedError when another version is served, StoppedError
    after `stop` is set, FetchError when the server gives no more, and OSError when `target` cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab", buffering=0) as partial:
        failures = 0
        while (held := os.fstat(partial.fileno()).st_size) < file.size:
            try:
                _append(file, partial.fileno(), held if file.version else 0, came, stop)
            except BrokenError as error:
                now = os.fstat(partial.fileno()).st_size
                failures = 1 if file.version and now > held else failures + 1
                if failures >= TRIES:
                    raise FetchError(
                        f"{error}; {now:,} of {file.size:,} bytes came, and {TRIES} tries brought no more; "
                        "try again later: it goes on from there"
                    ) from None
                stop.wait(FIRST_PAUSE * 2 ** (failures - 1))
        os.fsync(partial.fileno())
    if held > file.size:
        target.unlink()
        raise ChangedError(f"{file.address}: more bytes came than the {file.size:,} that were promised")


def _append(file: RemoteFile, partial: int, held: int, came: Callable[[int], None], stop: threading.Event) -> None:
    start, blocks = store_of(file.address).open(file, held)
    os.ftruncate(partial, start)
    came(start)
    for block in blocks:
        if stop.is_set():
            raise StoppedError(f"{file.address}: the download was stopped")
        left = memoryview(block)
        while left:
            left = left[os.write(partial, left) :]
        start += len(block)
        came(start)
        if start > file.size:
            return
    if start < file.size:
        raise BrokenError(f"{file.address}: the connection ended early")
