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
class Result:
    """What became of a unit."""

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
