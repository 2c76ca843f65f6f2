"""Runs the promises of sql/checks: each query returns what breaks one."""

from __future__ import annotations

from collections.abc import Callable
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


def check(root: Path, tell: Callable[[str, float], None] | None = None) -> list[Check]:
    """All checks, in the order of their names. tell: called before each with its name and the fraction that is done."""
    files = sorted((SQL / "checks").glob("*.sql"))
    checks = []
    with session.connect(root, udfs=()) as con:
        for number, path in enumerate(files):
            if tell is not None:
                tell(path.stem, number / len(files))
            checks.append(_run(con, path))
    return checks


def _run(con: duckdb.DuckDBPyConnection, path: Path) -> Check:
    text = path.read_text(encoding="utf-8")
    return Check(path.stem, about(text), "\n-- notice\n" in text, con.execute(text).pl())
