"""What the pages read: queries of sql/app on one moment of the lake, kept until the lake changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl
import streamlit as st

from lake import session, store
from lake.sql_files import query
from udfs.errors import LakeError
from viewer.sql_catalog import abouts

HOTSPOTS = 8
ROC_POINTS = 200  # a split: more than a chart can show

Row = dict[str, Any]


class Lake(NamedTuple):
    """A lake, and the version of its ledger: what was read of the two stays true."""

    root: str
    version: int


@dataclass(frozen=True)
class SlideView:
    """A slide beside the champion's predictions of it, and the table versions that they were read at."""

    slide: Row
    model: Row | None
    tiles: pl.DataFrame
    hotspots: pl.DataFrame
    versions: dict[str, int]


@dataclass(frozen=True)
class Performance:
    """The champion and what was measured of it."""

    model: Row | None
    metrics: pl.DataFrame
    roc_curve: pl.DataFrame
    reliability: pl.DataFrame


def open_lake() -> Lake:
    """The lake that the app was started on, as it is now."""
    root = session.lake_path()
    return Lake(str(root), store.open_table(root, "runs").version())


@st.cache_data(max_entries=4, show_spinner="Reading the lake …")
def worklist(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/worklist.sql."""
    with _connection(lake) as con:
        return con.execute(query("app/worklist")).pl()


@st.cache_data(max_entries=32, show_spinner="Reading the slide …")
def slide_view(lake: Lake, slide_id: str, patch_set: str | None) -> SlideView:
    """A slide that is in the lake, with its predictions in the tiling `patch_set`; None: it has none."""
    with _connection(lake) as con:
        slide = con.execute(query("app/slide"), {"slide_id": slide_id}).pl().row(0, named=True)
        model = _champion(con)
        where = {"slide_id": slide_id, "patch_set": patch_set}
        model_id = model["model_id"] if model else None
        tiles = con.execute(query("app/heatmap_tiles"), {**where, "model_id": model_id}).pl()
        hotspots = con.execute(query("app/hotspots"), {**where, "patches": HOTSPOTS}).pl()
        return SlideView(slide, model, tiles, hotspots, session.versions(con))


@st.cache_data(max_entries=4, show_spinner="Reading the metrics …")
def performance(lake: Lake) -> Performance:
    """The champion's metrics, and the curves of its predictions on labelled patches."""
    with _connection(lake) as con:
        return Performance(
            _champion(con),
            con.execute(query("app/model_metrics")).pl(),
            con.execute(query("app/roc_curve"), {"points": ROC_POINTS}).pl(),
            con.execute(query("app/reliability")).pl(),
        )


@st.cache_data(max_entries=4, show_spinner="Reading the catalog …")
def catalog(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/catalog.sql: what a person can ask for."""
    with _connection(lake) as con:
        con.register("abouts", abouts(Path(lake.root)).to_arrow())
        return con.execute(query("app/catalog")).pl()


def _champion(con: session.Connection) -> Row | None:
    rows = con.execute(query("app/champion")).pl().to_dicts()
    return rows[0] if rows else None


@contextmanager
def _connection(lake: Lake) -> Iterator[session.Connection]:
    """DuckDB on the lake without any function; what fails there is a LakeError."""
    try:
        with session.connect(Path(lake.root), udfs=()) as con:
            yield con
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise LakeError(f"{lake.root}: cannot be read: {first}; `histolake check` looks for the reason") from error
