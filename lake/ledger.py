"""Questions to the ledger alone: the other tables need not be opened for them, which takes seconds in a large lake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from lake import store
from lake.sql_files import query


def entries(root: Path, at: int | None = None) -> pl.DataFrame:
    """All rows of the ledger, at its newest version or as it was at version `at`."""
    return store.rows(root, "runs", at)


def ask(
    runs: pl.DataFrame, name: str, values: Mapping[str, Any] | None = None, versions: Mapping[str, int] | None = None
) -> pl.DataFrame:
    """The answer of a query of sql/ that reads the ledger, and the table `snapshot` at most.

    runs: see `entries`. values: of the query's $params. versions: of the tables, for `snapshot`.
    """
    held = dict(versions or {})
    snapshot = pl.DataFrame(
        {"table_name": list(held), "version": list(held.values())}, {"table_name": pl.String, "version": pl.Int64}
    )
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.register("runs", runs.to_arrow())
        con.register("snapshot", snapshot.to_arrow())
        return con.execute(query(name), dict(values or {})).pl()
