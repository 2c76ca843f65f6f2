"""The parts of the metrics page."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl
import streamlit as st

from viewer.reading import Performance
from viewer.text import escaped

SPLITS = ("train", "validation", "test")
COLORS = ("#8a8f98", "#e08a00", "#2b86d9")  # of the splits; seen on white and on black
SHAPES = ("circle", "square", "diamond")
DASHES = ([2, 2], [6, 3], [1, 0])  # so that color is not all that tells them apart
CONFUSION = {"tp": "true positives", "fp": "false positives", "tn": "true negatives", "fn": "false negatives"}
NAMES = CONFUSION | {"auc": "AUC", "ece": "expected calibration error", "brier": "Brier score"}
CHART_PX = 360
_INTERVAL = pl.format("{} to {}", *(pl.col(end).round(3).cast(pl.String) for end in ("low", "high")))


def show_model(performance: Performance) -> dict[str, Any] | None:
    """Name the champion; returns its row, or None while there is none."""
    model = performance.model
    if model is None:
        st.info("No model yet: `histolake train` fits one, `histolake predict` and `histolake evaluate` measure it.")
        return None
    facts = (
        f"model {model['model_id']} · {model['encoder_id']} · {model['patch_set']} · labels by {model['label_rule']}"
    )
    st.caption(escaped(facts))
    return model


def show_tables(metrics: pl.DataFrame, threshold: float) -> None:
    """Show the numbers of every split with their intervals, and the counts behind them, at the model's threshold."""
    if metrics.is_empty():
        st.info("Nothing was measured of this model yet: `histolake evaluate` does it.")
        return
    if not metrics["is_current"].all():
        st.warning(
            "The lake has changed since these numbers were measured: `histolake evaluate` brings them up to date."
        )
    measured_at = str(metrics["measured_at"].dt.strftime("%Y-%m-%d %H:%M").max())
    st.caption(f"Of patches, measured {measured_at} UTC. The model was fitted on train.")
    splits = [split for split in SPLITS if split in metrics["split"]]
    wide = _by_split(metrics, "value").select("name", *splits)
    intervals = _by_split(metrics.with_columns(interval=_INTERVAL), "interval")
    rates, counts = st.columns([3, 2], gap="large")
    with rates:
        st.subheader("Agreement with the labels", help="Beside each number its 95 % interval by bootstrap over slides.")
        shown = wide.filter(~pl.col("name").is_in([*CONFUSION, "patches"])).sort("name")
        shown = shown.join(intervals, on="name", suffix=" 95 %", maintain_order="left")
        shown = shown.select("name", *(column for split in splits for column in (split, f"{split} 95 %")))
        config = {split: st.column_config.NumberColumn(format="%.3f") for split in splits}
        st.dataframe(_readable(shown), hide_index=True, column_config=config, placeholder="")
    with counts:
        st.subheader(f"Confusion, at a probability of {threshold:.3g}")
        order = pl.Enum(["patches", *CONFUSION])
        shown = wide.filter(pl.col("name").is_in([*CONFUSION, "patches"])).sort(pl.col("name").cast(order))
        config = {split: st.column_config.NumberColumn(format="localized") for split in splits}
        shown = shown.with_columns(pl.col(splits).cast(pl.Int64))
        st.dataframe(_readable(shown), hide_index=True, column_config=config, placeholder="")


def show_charts(performance: Performance) -> None:
    """Show the ROC curve and the reliability of the predictions as they are now."""
    roc, reliable = st.columns(2, gap="large")
    with roc:
        st.subheader("ROC")
        if performance.roc_curve.is_empty():
            st.info("No split has labelled tumor and normal patches with predictions.")
        else:
            st.altair_chart(_roc_chart(performance.roc_curve), width="stretch")
    with reliable:
        st.subheader("Reliability", help="Patches by tenths of their probability; larger marks stand for more patches.")
        if performance.reliability.is_empty():
            st.info("No labelled patch has a prediction.")
        else:
            st.altair_chart(_reliability_chart(performance.reliability), width="stretch")


def _by_split(metrics: pl.DataFrame, column: str) -> pl.DataFrame:
    return metrics.pivot(on="split", index="name", values=column, aggregate_function="first")


def _readable(metrics: pl.DataFrame) -> pl.DataFrame:
    names = {name: name.replace("_", " ") for name in metrics["name"]} | NAMES
    return metrics.with_columns(pl.col("name").replace(names).alias("patch metric")).select(
        "patch metric", pl.exclude("name", "patch metric")
    )


def _roc_chart(curve: pl.DataFrame) -> alt.LayerChart:
    lines = (
        alt.Chart(curve)
        .mark_line(interpolate="linear")
        .encode(
            x=_unit("false_positive_rate:Q", "false positive rate"),
            y=_unit_y("sensitivity:Q", "sensitivity"),
            order="position:Q",
            color=_split_color(),
            strokeDash=_split_dash(),
            tooltip=["split", "threshold", "false_positive_rate", "sensitivity"],
        )
    )
    return alt.LayerChart(layer=[_diagonal(), lines], height=CHART_PX)


def _reliability_chart(bins: pl.DataFrame) -> alt.LayerChart:
    points = (
        alt.Chart(bins)
        .mark_point(filled=True, opacity=0.9)
        .encode(
            x=_unit("mean_probability:Q", "probability, mean of a tenth"),
            y=_unit_y("tumor_fraction:Q", "fraction that is tumor"),
            color=_split_color(),
            shape=alt.Shape("split:N", scale=alt.Scale(domain=list(SPLITS), range=list(SHAPES))),
            size=alt.Size("patches:Q", scale=alt.Scale(range=[40, 400]), legend=None),
            tooltip=["split", "patches", "mean_probability", "tumor_fraction"],
        )
    )
    return alt.LayerChart(layer=[_diagonal(), points], height=CHART_PX)


def _unit(field: str, title: str) -> alt.X:
    return alt.X(field, title=title, scale=alt.Scale(domain=[0, 1]))


def _unit_y(field: str, title: str) -> alt.Y:
    return alt.Y(field, title=title, scale=alt.Scale(domain=[0, 1]))


def _split_color() -> alt.Color:
    return alt.Color("split:N", sort=SPLITS, scale=alt.Scale(domain=list(SPLITS), range=list(COLORS)))


def _split_dash() -> alt.StrokeDash:
    return alt.StrokeDash("split:N", scale=alt.Scale(domain=list(SPLITS), range=list(DASHES)))


def _diagonal() -> alt.Chart:
    ends = pl.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0]})
    line: alt.Chart = alt.Chart(ends).mark_line(color="#8a8f98", opacity=0.5, strokeWidth=1).encode(x="x:Q", y="y:Q")
    return line
