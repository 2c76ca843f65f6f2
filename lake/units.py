"""A unit of work: what is planned, done, retried and committed at once; see docs/architecture.md."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Unit:
    """A slide, or a part of it, that a stage has to do."""

    slide_id: str
    identity: str  # JSON of the identity columns
    part: int
    has_parts: bool
    fingerprint: str
    bucket: int
    rows: int  # of the stage's input


@dataclass(frozen=True)
class Outcome:
    """What the lake holds of a unit now."""

    unit: Unit
    rows: int
    failure: str | None  # why the unit, or some of its rows, could not be computed


@dataclass(frozen=True)
class Result:
    """What was computed of a unit, and is not in the lake yet."""

    unit: Unit
    rows: pa.Table | None  # None when it failed
    errors: int
    error: str | None
    seconds: float

    @property
    def status(self) -> str:
        """'ok', 'empty' or 'failed', as the ledger has it."""
        if self.rows is None or (self.rows.num_rows and self.errors == self.rows.num_rows):
            return "failed"
        return "ok" if self.rows.num_rows else "empty"

    @property
    def outcome(self) -> Outcome:
        """What to tell of it once it is committed."""
        total = self.rows.num_rows if self.rows is not None else 0
        if self.error is None or total <= 1:
            return Outcome(self.unit, total, self.error)
        return Outcome(self.unit, total, f"{self.errors} of {total} rows: {self.error}")
