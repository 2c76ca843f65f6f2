"""Reads the table audit: what it tells, and whether its chain is whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from lake import session
from lake.audit_chain import anchor
from lake.sql_files import query
from lake.tables import AUDIT
from udfs.errors import LakeError

PROBLEMS = {
    "changed": "row {sequence} was changed after it was written",
    "twice": "row {sequence} is there twice: one of them was put in",
    "gap": "rows {first} to {last} are missing",
    "unlinked": "row {sequence} does not follow from the row before it: rows before it were written anew",
}


@dataclass(frozen=True)
class Verified:
    """What the chain came to.

    events: how many rows it has. sequence, tip: place and hash of the last row; None without rows. problems: what is
    wrong with it, a sentence each.
    """

    events: int
    first_at: datetime | None
    last_at: datetime | None
    sequence: int | None
    tip: str | None
    problems: list[str]


def verify(root: Path, tip: str | None = None) -> Verified:
    """Compute every hash anew and compare.

    tip: a hash that the last row had once, kept where nobody who can write to the lake can: only by it is found that
    rows were taken off the end, or all that follows some row was written anew.
    """
    with _opened(root) as con:
        [found] = con.execute(query("audit/summary"), {"tip": tip}).pl().to_dicts()
        broken = con.execute(query("audit/broken_rows"), {"anchor": anchor(root)}).pl().to_dicts()
    problems = [_told(row) for row in broken]
    if tip is not None and found["kept_sequence"] is None:
        problems.append(f"no row has the hash {tip}: rows were taken off the end, or written anew from some row on")
    return Verified(
        found["events"], found["first_at"], found["last_at"], found["sequence"], found["tip"] or None, problems
    )


def _told(row: Mapping[str, Any]) -> str:
    first, last = row["sequence_before"] + 1, (row["sequence"] or 0) - 1
    return PROBLEMS[row["problem"]].format(sequence=row["sequence"], first=first, last=last)


def events(
    root: Path,
    *,
    who: str | None = None,
    slide: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    most: int,
) -> pl.DataFrame:
    """The newest rows of sql/audit/events.sql that are of whom, of what and since when one asks; * and ? may stand."""
    asked = {"who": who, "slide": slide, "action": action, "since": since, "events": most}
    with _opened(root) as con:
        return con.execute(query("audit/events"), asked).pl()


@contextmanager
def _opened(root: Path) -> Iterator[session.Connection]:
    try:
        with session.apart(root, AUDIT.name) as con:
            yield con
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise LakeError(f"{root / AUDIT.name}: cannot be read: {first}; restore its files from a backup") from error
