"""Events in the audit table, as other processes write them, too."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake import audit
from lake.audit import Action, Deed, Who


def someone(name: str) -> Who:
    """A person at the app."""
    return Who(f"subject of {name}", name, "viewer", "app")


def write(root: Path, name: str, count: int) -> None:
    """A person opens so many slides, one after another."""
    for number in range(count):
        audit.record(root, someone(name), Deed(Action.opened, f"slide_{number}"))


def without_end(root: Path, name: str) -> None:
    """A person opens slides until the process is killed."""
    number = 0
    while True:
        audit.record(root, someone(name), Deed(Action.opened, f"slide_{number}"))
        number += 1


@contextmanager
def full_disk() -> Iterator[None]:
    """Meanwhile this process can write no file beyond its first bytes, as if there was no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
