"""The one way from a slide's path to a file of this machine: slides with an address are fetched, whole, and kept.

A copy is complete or not there, of one version of the slide, never fetched by two at once, and not deleted while it
is in use. `udfs/cache_room.py` tells how copies lie on disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
import weakref
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from udfs import cache_room
from udfs.addresses import file_name, is_address, is_pseudonym
from udfs.cache_room import ABOUT, NoRoomError, lock_of, part_of, slides_dir
from udfs.download import StoppedError, download, served
from udfs.errors import FetchError, MissingError, SlideError
from udfs.exhaustion import raise_if_exhausted
from udfs.locks import try_alone, try_shared
from udfs.pseudonyms import true_path
from udfs.remote import BrokenError, ChangedError, RemoteFile

FRESH_SECONDS = 300.0  # a copy that was compared with what is served is not compared again so soon
FAILURE_SECONDS = 10.0  # nor is a slide asked for again that could not be fetched: it may have thousands of patches
ROOM_SECONDS = 300.0  # to wait until others need less of the cache
POLL_SECONDS = 0.1
LOOK_SECONDS = 0.25
CHANGES = 3  # versions of a slide that are begun before it counts as still being written


class LocalFile:
    """A slide's file on this machine; a copy stays in the cache as long as this object lives."""

    def __init__(self, file: str, lock: int | None = None) -> None:
        self.file, self.is_copy = file, lock is not None
        self.compared = time.monotonic()  # with what is served
        if lock is not None:
            weakref.finalize(self, _release, lock)


def _release(lock: int) -> None:
    os.utime(lock)  # used until now
    os.close(lock)


@dataclass
class _Job:
    """The fetching of one slide, by one thread, for all who ask."""

    is_patient: bool
    name: str  # for progress bars
    done: Future[LocalFile] = field(default_factory=Future)
    stop: threading.Event = field(default_factory=threading.Event)


_lock = threading.Lock()
_held: weakref.WeakValueDictionary[str, LocalFile] = weakref.WeakValueDictionary()
_jobs: dict[str, _Job] = {}
_failed: dict[str, tuple[float, FetchError]] = {}

coming: dict[str, tuple[int, int]] = {}
"""Bytes that came and bytes in all of the slides that are being fetched, by name; progress bars read it."""


def local(path: str, *, is_patient: bool = True) -> LocalFile:
    """The slide's file on this machine: `path` itself, or a copy of what is at that address, fetched if need be.

    Those who ask for one slide wait for one download, in other processes too. is_patient: wait for room in the cache
    while others use all of it. Raises FetchError naming the address, or the pseudonym that stands for it, and, for a
    pseudonym, what `true_path` does.
    """
    true = true_path(path)
    if not is_address(true):
        return LocalFile(true)
    try:
        return _fetched(true, path, is_patient)
    except FetchError as error:
        if true == path:
            raise
        raise type(error)(f"{path}: {_why(error)}") from None


def _why(error: FetchError) -> str:
    """Why a slide with a pseudonym cannot be fetched, in words that name no place."""
    if isinstance(error, MissingError):
        return "not there; was the slide moved?"
    if isinstance(error, NoRoomError):
        return "the cache has no room for it; set HISTOLAKE_CACHE_GB to more"
    return "cannot be fetched; `histolake pseudonyms` tells from where"


def _fetched(path: str, name: str, is_patient: bool) -> LocalFile:
    """A copy of what is at the address `path`; name: what others may call it."""
    while True:
        with _lock:
            held = _held.get(path)
            if held is not None and time.monotonic() - held.compared < FRESH_SECONDS:
                return held
            failed = _failed.get(path)
            if failed is not None and time.monotonic() - failed[0] < FAILURE_SECONDS:
                raise FetchError(str(failed[1]))
            job = _jobs.get(path)
            if job is None:
                job = _jobs[path] = _Job(is_patient, name if is_pseudonym(name) else file_name(path))
                threading.Thread(target=_work, args=(path, job), name="fetch", daemon=True).start()
        while wait([job.done], LOOK_SECONDS).not_done:
            pass  # Ctrl-C is seen between waits only, see docs/engine-notes.md
        try:
            return job.done.result()
        except NoRoomError:
            if job.is_patient or not is_patient:
                raise  # else it was begun by one who would not wait


def is_here(path: str) -> bool:
    """Whether a slide can be opened, or be told what is wrong with it, without fetching it.

    Raises KeyFileError for a pseudonym whose key file is not at hand.
    """
    try:
        true = true_path(path)
    except SlideError:
        return True
    return not is_address(true) or true in _held or _newest(true) is not None


def doubt(address: str) -> None:
    """Have the next who opens the slide compare its copy with what is served."""
    with _lock:
        held = _held.get(address)
        if held is not None:
            held.compared = -FRESH_SECONDS
    for copy in _copies(address):
        with suppress(FileNotFoundError):
            os.utime(copy / ABOUT, (0, 0))


def stop_fetching() -> None:
    """Have all downloads of this process end soon; what came is kept."""
    with _lock:
        for job in _jobs.values():
            job.stop.set()


def _work(address: str, job: _Job) -> None:
    try:
        found = _obtained(address, job)
    except BaseException as error:  # whatever it is, those who wait must hear of it
        with _lock:
            del _jobs[address]
            if isinstance(error, FetchError) and not isinstance(error, NoRoomError):
                _failed[address] = time.monotonic(), error
        job.done.set_exception(error)
    else:
        with _lock:
            del _jobs[address]
            _failed.pop(address, None)
            known = _held.get(address)
            if known is not None and known.file == found.file:
                known.compared, found = found.compared, known
            _held[address] = found
        job.done.set_result(found)


def _obtained(address: str, job: _Job) -> LocalFile:
    try:
        return _obtain(address, job)
    except OSError as error:
        raise_if_exhausted(error, f"slides cannot be kept in {slides_dir()}")  # whose address may be a secret
        raise FetchError(
            f"{address}: cannot be kept in {slides_dir()}: {error.strerror or error}; "
            "make room, or set HISTOLAKE_CACHE to a folder that can be written"
        ) from error


def _obtain(address: str, job: _Job) -> LocalFile:
    """The copy of the version that is served now; of the newest version at hand where the server is out of reach."""
    cache_room.make_private()
    newest = _newest(address)
    if newest is not None and time.time() - _changed(newest / ABOUT) < FRESH_SECONDS:
        copy = _shared(newest, address)
        if copy is not None:
            return copy
    for attempt in range(1, CHANGES + 1):
        try:
            files = served(address, job.stop)
        except BrokenError as error:
            newest = _newest(address)
            copy = None if newest is None else _shared(newest, address)
            if copy is None:
                raise FetchError(str(error)) from None
            return copy
        folder = (
            slides_dir() / _digest(address) / _digest(*(f"{each.name}\0{each.size}\0{each.version}" for each in files))
        )
        try:
            while (copy := _shared(folder, address)) is None:
                _fetch(folder, files, job)
            os.utime(folder / ABOUT)
            return copy
        except ChangedError as error:
            if attempt == CHANGES:
                raise FetchError(str(error)) from None
    raise AssertionError  # the loop returns or raises


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()[:32]


def _shared(folder: Path, address: str) -> LocalFile | None:
    """The copy, not to be deleted while it is used; None when it is not there, or just being fetched or deleted."""
    if not folder.is_dir():
        return None
    lock = try_shared(lock_of(folder))
    if lock is None:
        return None
    if not folder.is_dir():
        os.close(lock)
        return None
    os.utime(lock)
    return LocalFile(str(folder / file_name(address)), lock)


def _copies(address: str) -> list[Path]:
    """The complete copies of the address, of whatever version."""
    return [entry for entry in (slides_dir() / _digest(address)).glob("*") if entry.is_dir() and not entry.suffix]


def _newest(address: str) -> Path | None:
    """The copy of the address that was used last."""
    return max(_copies(address), key=lambda copy: _changed(lock_of(copy)), default=None)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _fetch(folder: Path, files: list[RemoteFile], job: _Job) -> None:
    """Make the copy, unless another process is at it: then wait a moment."""
    lock = try_alone(lock_of(folder))
    if lock is None:
        if job.stop.wait(POLL_SECONDS):
            raise StoppedError(f"{files[0].address}: the download was stopped")
        return
    try:
        if not folder.is_dir():
            _reserve(folder, files, job)
            _download(folder, files, job)
    except (OSError, ChangedError):
        shutil.rmtree(part_of(folder), ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _reserve(folder: Path, files: list[RemoteFile], job: _Job) -> None:
    until = time.monotonic() + ROOM_SECONDS
    while True:
        try:
            return cache_room.reserve(folder, files[0].address, files[0].name, sum(each.size for each in files))
        except NoRoomError:
            if not job.is_patient or time.monotonic() > until or job.stop.wait(POLL_SECONDS):
                raise


def _download(folder: Path, files: list[RemoteFile], job: _Job) -> None:
    part, total, before = part_of(folder), sum(each.size for each in files), 0

    def came(held: int) -> None:
        coming[job.name] = before + held, total

    try:
        for file in files:
            target = part / file.name
            if not file.version:
                target.unlink(missing_ok=True)  # of which version its beginning is, nobody can tell
            download(file, target, came, job.stop)
            before += file.size
    finally:
        coming.pop(job.name, None)
    part.rename(folder)  # at once: nobody sees half of it
