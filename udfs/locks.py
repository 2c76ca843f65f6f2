"""Locks between processes and threads: many may share a file, or one has it alone; who dies lets go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":

    def _try(descriptor: int, is_shared: bool) -> bool:
        import msvcrt

        if is_shared:  # Windows knows no shared lock of this kind; what is open there cannot be deleted
            return True
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _try(descriptor: int, is_shared: bool) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def try_shared(path: Path) -> int | None:
    """Share the lock file `path`, made if need be; a descriptor whose closing lets go, None if one has it alone."""
    return _open(path, True)


def try_alone(path: Path) -> int | None:
    """Have the lock file `path` alone, made if need be; a descriptor whose closing lets go, None if it is taken."""
    return _open(path, False)


def _open(path: Path, is_shared: bool) -> int | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder was taken away just now
            continue
        if not _try(descriptor, is_shared):
            os.close(descriptor)
            return None
        if _is_current(descriptor, path):
            return descriptor
        os.close(descriptor)  # the file was deleted while we waited for it: nobody else would meet us there


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
