"""Rows as CSV, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

import polars as pl


def as_csv(frame: pl.DataFrame) -> str:
    """The rows with a header: lists and structs as JSON, BLOBs in hexadecimal."""
    return pl.DataFrame([_as_text(series) for series in frame]).write_csv()


def _as_text(series: pl.Series) -> pl.Series:
    if series.dtype == pl.Binary:
        return series.bin.encode("hex")
    if series.dtype.is_nested():
        texts = [None if value is None else json.dumps(value, default=_plain) for value in series.to_list()]
        return pl.Series(series.name, texts, pl.String)
    return series


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
