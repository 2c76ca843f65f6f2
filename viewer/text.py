"""Text as the pages show it."""

from __future__ import annotations

import re

import polars as pl

_SPECIAL = re.compile(r"([\\*_{}\[\]()#+.!|~$<>:&^-])")
_COMMAND = re.compile(r"(?<!`)(`[^`\r\n]+`)(?!`)")  # the one form of code that Markdown cannot take for another


def escaped(text: str) -> str:
    """`text` so that Markdown shows it as it is, apart from commands between backticks; others become quotes."""
    parts = _COMMAND.split(text)
    return "".join(
        part if index % 2 else _SPECIAL.sub(r"\\\1", part.replace("`", "'")) for index, part in enumerate(parts)
    )


def estimate(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """A number with its interval, if it has one: "0.871 (0.812 to 0.934)". sign: "+" writes that of either."""
    ends = "" if low is None or high is None else f" ({low:{sign}.3f} to {high:{sign}.3f})"
    return f"{value:{sign}.3f}{ends}"


def interval(low: str, high: str) -> pl.Expr:
    """The two columns, of numbers from 0 to 1, as "0.812 to 0.934"; NULL where either is."""
    thousandths = [
        (1000 * pl.col(end)).round().cast(pl.Int64, strict=False).cast(pl.String).str.zfill(4) for end in (low, high)
    ]
    return pl.format("{}.{} to {}.{}", *(part for each in thousandths for part in (each.str.head(1), each.str.tail(3))))
