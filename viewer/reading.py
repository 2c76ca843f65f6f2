"""What the pages read: queries of sql/app on one moment of the lake, kept until the reader asks for a newer one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import streamlit as st

from lake import session, store
from lake.choices import Peaks, lake_path
from lake.ledger import entries
from lake.slide_scores import TOP
from lake.sql_files import query
from lake.storage_faults import read_failure
from udfs.errors import LakeError
from viewer.sql_catalog import abouts

DIGITS = 12  # of a version; Delta's end at 19
MOMENTS = 3  # of the lake, whose connections are kept

Row = dict[str, Any]

_opening = threading.Lock()


class Lake(NamedTuple):
    """A lake, and the version of its ledger: what was read of the two stays true."""

    root: str
    version: int


@dataclass(frozen=True)
class Overview:
    """What every page says of the lake: the champion, how many slides there are, the versions of all tables."""

    model: Row | None
    slides: int
    versions: dict[str, int]


def version_number(text: str) -> int | None:
    """The version of a table that an address names; None for what is none."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else None  # Python refuses to read thousands of digits


def newest_lake() -> Lake:
    """The lake that the app was started on, as it is now."""
    root = lake_path()
    file, _ = store.newest_commit(root, "runs")
    return Lake(str(root), int(Path(file).stem))


def open_lake() -> Lake:
    """The lake that the app was started on, as this visitor's pages show it: as it was until they ask for `refresh`."""
    shown: Lake | None = st.session_state.get("lake")
    if shown is None or shown.root != str(lake_path()):
        shown = st.session_state["lake"] = newest_lake()
    return shown


def refresh() -> None:
    """Let this visitor's pages show the lake as it is now; to be called, too, after the app has written to it."""
    st.session_state.pop("lake", None)


@st.cache_data(max_entries=4, show_spinner="Reading the lake …")
def overview(lake: Lake) -> Overview:
    """What the frame of every page shows."""
    with connection(lake) as con:
        [(slides,)] = con.table("slides").count("*").fetchall()
        return Overview(_champion(con), slides, session.versions(con))


@st.cache_data(max_entries=4, show_spinner="Reading the lake …")
def worklist(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/worklist.sql, with hotspots as `histolake evaluate` finds them by default."""
    with connection(lake) as con:
        return con.execute(query("app/worklist"), {**Peaks().parameters, "top": TOP}).pl()


@st.cache_data(max_entries=2, show_spinner="Reading the ledger …")
def ledger_entries(lake: Lake) -> pl.DataFrame:
    """The whole ledger: in a large lake it is thousands of small files, so that it is read once."""
    return entries(lake_path(lake.root), lake.version)


@st.cache_data(max_entries=4, show_spinner="Reading the catalog …")
def catalog(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/catalog.sql: what a person can ask for."""
    with connection(lake) as con:
        con.register("abouts", abouts(lake_path(lake.root)).to_arrow())
        return con.execute(query("app/catalog")).pl()


def _champion(con: session.Connection) -> Row | None:
    rows = con.execute(query("app/champion")).pl().to_dicts()
    return rows[0] if rows else None


@contextmanager
def connection(lake: Lake, functions: tuple[str, ...] = ()) -> Iterator[session.Connection]:
    """DuckDB on that moment of the lake, with these functions; what fails there is a LakeError."""
    try:
        with _opening:  # by one thread: the others find it open
            shared = connected(lake, functions)
        with session.cursor(shared) as con:
            yield con
    except duckdb.Error as error:
        if failure := read_failure(error):
            raise failure from error
        first = str(error).partition("\n")[0]
        raise LakeError(f"{lake.root}: cannot be read: {first}; `histolake check` looks for the reason") from error


@lru_cache(maxsize=MOMENTS)
def connected(lake: Lake, functions: tuple[str, ...] = ()) -> session.Connection:
    """The connection that all readers of the moment share: opening a lake takes longer than most queries."""
    return session.connect(lake_path(lake.root), udfs=functions, at={"runs": lake.version})
