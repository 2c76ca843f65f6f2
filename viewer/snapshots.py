"""Connections that outlive a request: opening a lake takes longer than most of its queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import duckdb

from lake import session
from udfs.errors import LakeError
from viewer.reading import Lake

KEPT = 3  # moments of a lake


@contextmanager
def reading(lake: Lake) -> Iterator[session.Connection]:
    """DuckDB on the lake as it was at that version, without any function; what fails there is a LakeError."""
    try:
        with connected(lake).cursor() as con:
            yield con
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise LakeError(f"{lake.root}: cannot be read: {first}; `histolake check` looks for the reason") from error


@lru_cache(maxsize=KEPT)
def connected(lake: Lake) -> session.Connection:
    """The connection that all readers of that moment share; their cursors may run side by side."""
    return session.connect(Path(lake.root), udfs=(), at={"runs": lake.version})
