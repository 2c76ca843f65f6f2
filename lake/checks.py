"""Runs the promises of sql/checks: each query returns what breaks one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from lake import session
from lake.sql_files import SQL, about


@dataclass(frozen=True)
class Check:
    """A promise and what breaks it. A notice is worth knowing, but breaks nothing."""

    name: str
    about: str
    is_notice: bool
    violations: pl.DataFrame

    @property
    def is_broken(self) -> bool:
        """Whether a promise is not kept."""
        return not self.is_notice and not self.violations.is_empty()


def check(root: Path) -> list[Check]:
    """All checks, in the order of their names."""
    with session.connect(root, udfs=()) as con:
        return [_run(con, path) for path in sorted((SQL / "checks").glob("*.sql"))]


def _run(con: duckdb.DuckDBPyConnection, path: Path) -> Check:
    text = path.read_text(encoding="utf-8")
    return Check(path.stem, about(text), "\n-- notice\n" in text, con.execute(text).pl())
