"""The charts of the models page: every series has a color, and a dash or a shape beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from lake.lesions import RATES

COLORS = ("#0072b2", "#d55e00", "#808080")  # at least 3 to 1 on the paper of either theme; safe for the color-blind
SHAPES = ("circle", "square", "diamond")
DASHES = ([1, 0], [6, 3], [2, 2])
PAPER = "#808080"  # of lines that are no series
HEIGHT_PX = 350
SHORT = 10  # letters of a series' name: several then stand beside each other in a legend
APART = 0.94  # factor of the rate from one series' mark to the next, so that equal ones do not hide each other
LEAST_RATE = 0.125  # false positives a slide: where the logarithmic axis begins


def roc(curve: pl.DataFrame, names: Sequence[str]) -> alt.LayerChart:
    """Sensitivity over the false positive rate; curve: rows of sql/app/roc_curve.sql with `series`."""
    tooltip = ["series", "split", "threshold", "false_positive_rate", "sensitivity"]
    lines = _lines(
        curve, names, _unit("x", "false_positive_rate", "false positive rate"), _unit("y", "sensitivity"), tooltip
    )
    return alt.LayerChart(layer=[_diagonal(), lines], height=HEIGHT_PX)


def precision_recall(curve: pl.DataFrame, names: Sequence[str]) -> alt.LayerChart:
    """Precision over recall; curve: rows of sql/app/precision_recall.sql with `series`."""
    tooltip = ["series", "split", "threshold", "recall", "precision", "prevalence"]
    lines = _lines(curve, names, _unit("x", "recall"), _unit("y", "precision"), tooltip)
    return alt.LayerChart(layer=[lines], height=HEIGHT_PX)


def reliability(bins: pl.DataFrame, names: Sequence[str]) -> alt.LayerChart:
    """Fraction of tumor over probability; bins: rows of sql/app/reliability.sql with `series`."""
    points = (
        alt.Chart(bins)
        .mark_point(filled=True, opacity=0.9)
        .encode(
            x=_unit("x", "mean_probability", "probability, mean of a tenth"),
            y=_unit("y", "tumor_fraction", "fraction that is tumor"),
            color=_color(names),
            shape=_shape(names),
            size=alt.Size("patches:Q", scale=alt.Scale(range=[40, 400]), legend=None),
            tooltip=["series", "split", "patches", "mean_probability", "tumor_fraction"],
        )
    )
    return alt.LayerChart(layer=[_diagonal(), points], height=HEIGHT_PX)


def slide_scores(scores: pl.DataFrame, names: Sequence[str]) -> alt.Chart:
    """A mark for every slide by label and series; scores: slide_id, label, score, `series`."""
    labels = [name for name in ("tumor", "normal", "unknown") if name in scores["label"]]
    chart: alt.Chart = (
        alt.Chart(scores, height=HEIGHT_PX)
        .mark_point(filled=True, size=90, opacity=0.75)
        .encode(
            x=_unit("x", "score", "score of the slide"),
            y=alt.Y("label:N", sort=labels, title=None),
            yOffset=alt.YOffset("series:N", sort=list(names)),
            color=_color(names),
            shape=_shape(names),
            tooltip=["slide_id", "series", "split", "label", "score"],
        )
    )
    return chart


def froc(points: pl.DataFrame, curve: pl.DataFrame | None, names: Sequence[str]) -> alt.LayerChart:
    """Sensitivity at the challenge's six rates with intervals, and the whole curve if there is one.

    points: rate, value, low, high, `series`. curve: rows of sql/metrics/froc_curve.sql with `series`.
    """
    beside = pl.col("series").replace_strict({name: APART**place for place, name in enumerate(names)})
    marks = alt.Chart(points.with_columns(at=pl.col("rate") * beside)).encode(x=_rate("at"), color=_color(names))
    intervals = marks.mark_rule(strokeWidth=2, opacity=0.6).encode(y=_unit("y", "low", "sensitivity"), y2="high:Q")
    values = marks.mark_point(filled=True, size=80, opacity=1).encode(
        y=_unit("y", "value", "sensitivity"),
        shape=_shape(names),
        tooltip=["series", "rate", "value", "low", "high"],
    )
    layers: list[alt.Chart] = [intervals, values]
    if curve is not None:
        known = curve.drop_nulls("sensitivity")
        ends = known.group_by("series", maintain_order=True).last().with_columns(false_positives=pl.lit(RATES[-1]))
        drawn = pl.concat([known, ends.select(known.columns)]).with_columns(
            pl.col("false_positives").clip(LEAST_RATE, RATES[-1]),
            pl.int_range(pl.len()).over("series").alias("position"),
        )
        steps = alt.Chart(drawn).mark_line(interpolate="step-after", clip=True)
        layers.append(
            steps.encode(
                x=_rate("false_positives"),
                y=_unit("y", "sensitivity"),
                order="position:Q",
                color=_color(names),
                strokeDash=_dash(names).legend(None),
            )
        )
    return alt.LayerChart(layer=layers, height=HEIGHT_PX)


def confusion(counts: pl.DataFrame) -> alt.FacetChart:
    """A square of four a series; counts: series, actual, called, patches, share (of the actual)."""
    base = alt.Chart(counts, width=130, height=110).encode(
        x=alt.X("called:N", title="called", sort=["tumor", "normal"], axis=alt.Axis(labelAngle=0, orient="top")),
        y=alt.Y("actual:N", title="is", sort=["tumor", "normal"]),
        tooltip=[
            "series",
            "actual",
            "called",
            alt.Tooltip("patches:Q", format=","),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    squares = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(domain=[0, 1], range=["#eef4fa", "#79b4dd"]), legend=None)
    )
    numbers = base.mark_text(fontSize=14, dy=-8, color="#111111").encode(text=alt.Text("patches:Q", format=","))
    shares = base.mark_text(fontSize=12, dy=12, color="#111111").encode(text=alt.Text("share:Q", format=".1%"))
    facets: alt.FacetChart = alt.layer(squares, numbers, shares).facet(
        column=alt.Column("series:N", title=None, sort=counts["series"].unique(maintain_order=True).to_list())
    )
    return facets


def _lines(curve: pl.DataFrame, names: Sequence[str], x: alt.X, y: alt.Y, tooltip: list[str]) -> alt.Chart:
    lines: alt.Chart = (
        alt.Chart(curve)
        .mark_line(interpolate="linear", strokeWidth=2.5)
        .encode(x=x, y=y, order="position:Q", color=_color(names), strokeDash=_dash(names), tooltip=tooltip)
    )
    return lines


def _unit(axis: str, field: str, title: str | None = None) -> Any:
    kind = alt.X if axis == "x" else alt.Y
    return kind(f"{field}:Q", title=title or field, scale=alt.Scale(domain=[0, 1]))


def _rate(field: str) -> alt.X:
    scale = alt.Scale(type="log", base=2, domain=[LEAST_RATE, RATES[-1]], clamp=True)
    axis = alt.Axis(values=list(RATES), format="~g", grid=True)
    return alt.X(f"{field}:Q", title="false positives a slide", scale=scale, axis=axis)


def _color(names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=list(COLORS[: len(names)]))
    legend = alt.Legend(orient="top", columns=1 if max(map(len, names)) > SHORT else len(names), symbolOpacity=1)
    return alt.Color("series:N", title=None, sort=list(names), scale=scale, legend=legend)


def _dash(names: Sequence[str]) -> alt.StrokeDash:
    scale = alt.Scale(domain=list(names), range=list(DASHES[: len(names)]))
    return alt.StrokeDash("series:N", title=None, sort=list(names), scale=scale)


def _shape(names: Sequence[str]) -> alt.Shape:
    scale = alt.Scale(domain=list(names), range=list(SHAPES[: len(names)]))
    return alt.Shape("series:N", title=None, sort=list(names), scale=scale)


def _diagonal() -> alt.Chart:
    ends = pl.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0]})
    line: alt.Chart = alt.Chart(ends).mark_line(color=PAPER, opacity=0.6, strokeWidth=1).encode(x="x:Q", y="y:Q")
    return line
