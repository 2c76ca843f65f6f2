"""What a check of `histolake doctor` has to say: a line that is ok, a warning or an error, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """ok; warning: histolake works, but something will be slow, scarce or missing; error: it does not work."""

    ok = "ok"
    warning = "warning"
    error = "error"


@dataclass(frozen=True)
class Note:
    """A line of a check. remedy: what to do; empty where all is well."""

    status: Status
    message: str
    remedy: str = ""


def ok(message: str) -> Note:
    """What is as it should be."""
    return Note(Status.ok, message)


def warning(message: str, remedy: str) -> Note:
    """What histolake can live with, and how to better it."""
    return Note(Status.warning, message, remedy)


def error(message: str, remedy: str) -> Note:
    """What keeps histolake from working, and how to mend it."""
    return Note(Status.error, message, remedy)
