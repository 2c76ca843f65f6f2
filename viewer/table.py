"""What the pages' tables have in common: how high they are, and how they write times."""

from __future__ import annotations

from typing import Any

import streamlit as st

HEADING_PX, ROW_PX = 38, 35  # of Streamlit's table


def height(rows: int, most: int | None = None) -> int:
    """Of a table that shows so many rows, px; `most` of them at once."""
    return HEADING_PX + ROW_PX * (rows if most is None else min(rows, most))


def utc(label: str) -> Any:
    """A column of times to the second, under `label (UTC)`."""
    return st.column_config.DatetimeColumn(f"{label} (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
