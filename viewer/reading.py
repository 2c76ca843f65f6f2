"""What the pages read: queries of sql/app on one moment of the lake, kept until the lake changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import streamlit as st

from lake import session, store
from lake.sql_files import query
from udfs.errors import LakeError

Row = dict[str, Any]


class Lake(NamedTuple):
    """A lake, and the version of its ledger: what was read of the two stays true."""

    root: str
    version: int


def open_lake() -> Lake:
    """The lake that the app was started on, as it is now."""
    root = session.lake_path()
    return Lake(str(root), store.open_table(root, "runs").version())


@st.cache_data(max_entries=4, show_spinner="Reading the lake …")
def worklist(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/worklist.sql."""
    with connection(lake) as con:
        return con.execute(query("app/worklist")).pl()


@contextmanager
def connection(lake: Lake, udfs: Iterable[str] = ()) -> Iterator[session.Connection]:
    """DuckDB on the lake as it was at that version, with these functions; what fails there is a LakeError."""
    try:
        with session.connect(Path(lake.root), udfs=udfs, at={"runs": lake.version}) as con:
            yield con
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise LakeError(f"{lake.root}: cannot be read: {first}; `histolake check` looks for the reason") from error
