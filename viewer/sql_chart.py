"""A quick chart of rows that were fetched."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl
import polars.selectors as cs
import streamlit as st

from viewer.chart import draw

POINTS = 5_000  # drawn at most: the browser draws each
HEIGHT_PX = 420
KINDS = ("bar", "line", "scatter")
FEW = 20  # different whole numbers at most that are told apart by colours of their own


def drawable(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that an axis can show: numbers, times, and what has few letters as words."""
    return frame.select(
        series.cast(pl.Float64) if series.dtype.is_decimal() else series
        for series in (_as_words(series) for series in frame)
        if series.dtype.is_numeric() or series.dtype.base_type() in (pl.String, pl.Date, pl.Datetime)
    )


def _as_words(series: pl.Series) -> pl.Series:
    is_word = series.dtype.base_type() in (pl.Boolean, pl.Categorical, pl.Enum, pl.Time)
    return series.cast(pl.String) if is_word else series


def show_chart(frame: pl.DataFrame) -> None:
    """Let the person choose a kind and columns, and draw them."""
    columns = drawable(frame)
    numbers = columns.select(cs.numeric()).columns
    if not numbers or columns.is_empty():
        st.info("A chart needs rows with a column of numbers.")
        return
    kind, x, y, color = _choices(columns.columns, numbers)
    picked = columns.select(pl.col(x).alias("x"), pl.col(y).alias("y"), pl.col(color or x).alias("color"))
    drawn = picked.sample(POINTS, seed=0) if picked.height > POINTS else picked
    draw(chart(drawn, kind, x=x, y=y, color=color), f"{y} over {x}")
    if drawn.height < picked.height:
        st.caption(f"{drawn.height:,} of the {picked.height:,} rows in the table are drawn, chosen at random.")


def chart(drawn: pl.DataFrame, kind: str, *, x: str, y: str, color: str | None) -> alt.Chart:
    """The columns x, y and color of `drawn`, under the titles given; color=None leaves all in one colour."""
    base = alt.Chart(drawn, height=HEIGHT_PX)
    marks: dict[str, Any] = {
        "bar": base.mark_bar(),
        "line": base.mark_line(point=True),
        "scatter": base.mark_circle(size=40, opacity=0.7),
    }
    x_type: Any = "ordinal" if kind == "bar" and drawn["x"].n_unique() <= FEW else _type(drawn["x"])
    channels: list[Any] = [
        alt.X("x", type=x_type, title=x),
        alt.Y("y", type="quantitative", title=y),
        alt.Tooltip(["x", "y", "color"] if color else ["x", "y"]),
    ]
    if color:
        is_kind = drawn["color"].dtype.is_integer() and drawn["color"].n_unique() <= FEW
        channels.append(alt.Color("color", type="nominal" if is_kind else _type(drawn["color"]), title=color))
    encoded: alt.Chart = marks[kind].encode(*channels)
    return encoded


def _type(series: pl.Series) -> Any:
    return "quantitative" if series.dtype.is_numeric() else "temporal" if series.dtype.is_temporal() else "nominal"


def _choices(columns: list[str], numbers: list[str]) -> tuple[str, str, str, str | None]:
    """What the person chose: kind, x, y, colour; at first the first column against the last of numbers."""
    y_first = numbers[-1]
    x_first = next((name for name in columns if name != y_first), y_first)
    for_kind, for_x, for_y, for_color = st.columns(4)
    kind = for_kind.segmented_control("Chart", KINDS, default="bar", required=True, key="chart_kind")
    x = for_x.selectbox("x", columns, index=columns.index(x_first), key="chart_x")
    y = for_y.selectbox("y", numbers, index=numbers.index(y_first), key="chart_y")
    color = for_color.selectbox("Colour", columns, index=None, placeholder="none", key="chart_color")
    return kind or KINDS[0], x, y, color
