"""How the command line speaks: tables, JSON for programs, errors in one line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import polars as pl

    from lake.pipeline import Summary

WIDEST = 1000  # columns of a table that goes into a file or a pipe, where nothing needs to be folded
IS_ON_SCREEN = sys.stdout.isatty() or "COLUMNS" in os.environ

stdout = Console(highlight=False, soft_wrap=True, width=None if IS_ON_SCREEN else WIDEST)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A sentence for the person at the terminal; stdout is kept for results."""
    stderr.print(text, markup=False)


def print_json(value: Any) -> None:
    """The result as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table on stdout, as wide as the terminal at most; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        is_number = all(_is_number(row[index]) for row in cells) and bool(cells)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    stdout.print(table)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").replace("e", "").isdigit() or text == ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, list) and len(value) > 8:
        return f"[{', '.join(_cell(item) for item in value[:4])}, … {len(value):,} values]"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


def print_frame(frame: pl.DataFrame, most: int = 100) -> None:
    """The first rows of a frame as a table, and how many there are in all."""
    print_table(frame.columns, frame.head(most).rows())
    if frame.height > most:
        say(f"{most} of {frame.height:,} rows; --format csv shows all")


def finish(summaries: Sequence[Summary], as_json: bool) -> None:
    """Tell what the stages did; the exit status says whether anything failed."""
    if as_json:
        print_json(summaries_json(summaries))
    else:
        print_summaries(summaries)
    if any(each.failures for each in summaries):
        raise typer.Exit(1)


def print_summaries(summaries: Sequence[Summary]) -> None:
    """What the stages did, and a line for each failure on stderr."""
    if not any(each.units for each in summaries):
        say("nothing to do: all of it was done before")
        return
    rows = [
        (
            each.stage,
            each.units,
            f"{each.rows:,}",
            round(each.seconds, 1),
            f"{each.rows / each.seconds:,.0f}" if each.seconds else None,
        )
        for each in summaries
    ]
    print_table(("stage", "units", "rows", "seconds", "rows/s"), rows)
    for each in summaries:
        for slide_id, error in each.failures:
            say(f"failed: {each.stage} of {slide_id}: {error}")


def summaries_json(summaries: Sequence[Summary]) -> list[Mapping[str, Any]]:
    """The same for programs."""
    return [
        {
            "stage": each.stage,
            "units": each.units,
            "rows": each.rows,
            "seconds": round(each.seconds, 3),
            "failures": [{"slide_id": slide_id, "error": error} for slide_id, error in each.failures],
        }
        for each in summaries
    ]
