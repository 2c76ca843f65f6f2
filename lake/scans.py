"""Finds the files of a lake's slides without a connection to the lake each time: for a thousand tiles a second."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb

from lake import store
from lake.sql_files import query
from udfs.slide import Area

LAKES = 4  # of which the slides are remembered


@dataclass(frozen=True)
class Scan:
    """A slide's file, what identifies its content, and the scanned area; None with the reason why it has none."""

    path: str
    fingerprint: str | None
    area: Area | None
    error: str | None


def find_scan(root: Path, slide_id: str) -> Scan | None:
    """The slide as the lake has it now; None when it has no such slide. Raises LakeError when there is no lake."""
    return _scans(root, store.newest_commit(root, "slides")).get(slide_id)


@lru_cache(maxsize=LAKES)
def _scans(root: Path, commit: tuple[str, int]) -> dict[str, Scan]:
    """Every slide of the lake, by slide_id; `commit`: the newest of the table slides."""
    with duckdb.connect() as con:
        con.register("slides", store.rows(root, "slides").to_arrow())
        rows = con.execute(query("app/scans")).pl().to_dicts()
    return {row["slide_id"]: Scan(row["path"], row["fingerprint"], _area(row), row["error"]) for row in rows}


def _area(row: dict[str, int | None]) -> Area | None:
    left, top, width, height = (row[name] for name in ("left_edge", "top_edge", "width", "height"))
    if left is None or top is None or not width or not height:
        return None
    return Area(left, top, width, height)
