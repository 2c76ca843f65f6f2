"""What the app's benchmarks have in common: a figure, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass


class NotMeasuredError(Exception):
    """Why there is no figure."""


@dataclass(frozen=True)
class Figure:
    """What was measured, s, and the most that it shall take; None with the reason where it was not measured."""

    what: str
    target: float | None
    seconds: float | None
    reason: str = ""
