"""What this machine has run out of: no slide is at fault, and the same command will do once there is room."""

from __future__ import annotations

import re
from collections.abc import Iterator

from udfs.errors import MachineError

SHORTAGES = (
    (
        r"No space left on device|Disk quota exceeded|File too large|database or disk is full"
        r"|No usable temporary directory|\bos error (?:27|28|122)\b",
        "the disk, or this user's share of it, is full; make room",
    ),
    (r"disk I/O error", "the disk is full, or broken; make room, or mend it"),  # SQLite's, for both
    (
        r"Too many open files|\bos error (?:23|24)\b",
        "too many files are open; raise the limit, e.g. by `ulimit -n 4096`",
    ),
    (
        r"Out of Memory Error|\bMemoryError\b|bad_?alloc|Cannot allocate memory|malloc of size|[Uu]nable to allocate"
        r"|[Ff]ailed to allocate|can't start new thread|spawn worker thread|failed to map segment|\bos error 12\b",
        "memory is used up; end other programs, or give this one more",
    ),
    (r"Read-only file system|readonly database|\bos error 30\b", "what holds it may only be read; name another place"),
)
AGAIN = "then run the same command again: what was committed stays"


def shortage(error: BaseException) -> str | None:
    """What an error, or one behind it, says that the machine has run out of, and the remedy; None for other errors."""
    for each in _behind(error):
        text = f"{type(each).__name__}: {each}"
        for pattern, meaning in SHORTAGES:
            if re.search(pattern, text):
                return f"{meaning}, {AGAIN}"
    return None


def raise_if_exhausted(error: BaseException, where: str = "") -> None:
    """Raise a MachineError, of `where`, if the error is one of a machine that has run out of something."""
    if why := shortage(error):
        raise MachineError(f"{where}: {why}" if where else why) from error


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
