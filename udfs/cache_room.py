"""Keeps the cache of slides within its limit: which copies there are, and which go when room is needed.

slides/ADDRESS/VERSION/ is a copy, complete; .part beside it is one that is being fetched, or was broken off, and has
its full size reserved; .lock is shared by those who use the copy, and had alone by who fetches or deletes it. Its
time tells when the copy was last used. ADDRESS and VERSION are hashes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from udfs.cache_folder import cache_dir
from udfs.errors import FetchError
from udfs.locks import try_alone

DEFAULT_GB = 50.0
ABOUT = "about.json"  # in each copy: {"address", "bytes", "file"}
_REMEDY = "set HISTOLAKE_CACHE_GB to more, or HISTOLAKE_CACHE to a folder with more room"

idle_holders: list[Callable[[str], None]] = []
"""Called with a copy's slide file when its room is needed: whoever keeps it open without need lets go of it."""


class NoRoomError(FetchError):
    """The cache has no room now, for others are using what is in it."""


@dataclass(frozen=True)
class Entry:
    """A copy in the cache, complete or not."""

    folder: Path  # without .part
    bytes: int
    file: str  # the slide's own file
    used: float

    @property
    def lock(self) -> Path:
        """The lock file of the copy."""
        return lock_of(self.folder)


def slides_dir() -> Path:
    """The folder of the copies."""
    return cache_dir() / "slides"


def make_private() -> None:
    """Make the folder of the copies, which hold all that a slide's file does, for this user alone.

    One that is there stays as open as somebody made it.
    """
    slides_dir().mkdir(0o700, parents=True, exist_ok=True)


def lock_of(folder: Path) -> Path:
    """The lock file of a copy."""
    return folder.with_name(f"{folder.name}.lock")


def part_of(folder: Path) -> Path:
    """Where a copy is fetched to."""
    return folder.with_name(f"{folder.name}.part")


def limit() -> int:
    """Bytes that the cache may hold: HISTOLAKE_CACHE_GB. Raises FetchError when that is no number above 0."""
    text = os.environ.get("HISTOLAKE_CACHE_GB", "")
    try:
        gigabytes = float(text) if text else DEFAULT_GB
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise FetchError(f"HISTOLAKE_CACHE_GB={text}: must be a number of gigabytes above 0")
    return int(gigabytes * 1e9)


def reserve(folder: Path, address: str, file: str, size: int) -> None:
    """Make room for a copy of `size` bytes, and note in its .part that it will need it; its lock must be held.

    The least recently used copies go first, never one that is in use. Raises NoRoomError when too many are, and
    FetchError when the copy alone is too large for the cache or its disk.
    """
    most = limit()
    if size > most:
        raise FetchError(f"{address}: {size / 1e9:,.3g} GB, and the cache may hold {most / 1e9:,.3g} GB; {_REMEDY}")
    part = part_of(folder)
    descriptor = None
    while descriptor is None:  # held for moments only
        descriptor = try_alone(slides_dir() / "room.lock")
        if descriptor is None:
            time.sleep(0.01)
    try:
        others = [entry for entry in entries() if entry.folder != folder]
        held = sum(file.stat().st_size for file in part.rglob("*") if file.is_file()) if part.is_dir() else 0
        spare = most - sum(entry.bytes for entry in others)
        for entry in sorted(others, key=lambda entry: entry.used):
            if spare >= size and _free() >= size - held:
                break
            if _evict(entry):
                spare += entry.bytes
        if spare < size:
            raise NoRoomError(
                f"{address}: no room in {slides_dir()}: of the {most / 1e9:,.3g} GB that it may hold "
                f"{(most - spare) / 1e9:,.3g} GB are in use; {_REMEDY}"
            )
        if _free() < size - held:
            raise FetchError(
                f"{address}: the disk of {slides_dir()} has {_free() / 1e9:,.3g} GB free, and the slide needs "
                f"{size / 1e9:,.3g} GB; make room, or set HISTOLAKE_CACHE to a folder with more"
            )
        part.mkdir(parents=True, exist_ok=True)
        (part / ABOUT).write_text(json.dumps({"address": address, "bytes": size, "file": file}), encoding="utf-8")
    finally:
        os.close(descriptor)


def _free() -> int:
    return shutil.disk_usage(slides_dir()).free


def entries() -> list[Entry]:
    """All copies, complete or not; removes what a process that died left of a deleted one."""
    found = []
    for about in slides_dir().glob(f"*/*/{ABOUT}"):
        if about.parent.suffix == ".gone":
            shutil.rmtree(about.parent, ignore_errors=True)
            continue
        folder = about.parent.with_suffix("")
        try:
            told = json.loads(about.read_text(encoding="utf-8"))
            used = lock_of(folder).stat().st_mtime
        except (OSError, ValueError):  # deleted just now, or broken off while it was written
            told, used = {"bytes": 0, "file": ""}, 0.0
        found.append(Entry(folder, told["bytes"], str(folder / told["file"]), used))
    return found


def _evict(entry: Entry) -> bool:
    """Delete a copy that nobody uses."""
    descriptor = try_alone(entry.lock)
    if descriptor is None:
        for let_go in idle_holders:
            let_go(entry.file)
        descriptor = try_alone(entry.lock)
    if descriptor is None:
        return False
    try:
        for folder in (entry.folder, part_of(entry.folder)):
            if folder.exists():
                gone = folder.with_name(f"{uuid4().hex}.gone")
                folder.rename(gone)  # at once: nobody sees half of it
                shutil.rmtree(gone, ignore_errors=True)
        entry.lock.unlink(missing_ok=True)
    except OSError:  # open elsewhere, on a system that then refuses
        return False
    finally:
        os.close(descriptor)
    return True
