"""The curves of one model by split, or of two models on one split, each with a sentence where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import polars as pl
import streamlit as st
from altair import LayerChart

from viewer import models_charts as charts
from viewer.chart import draw
from viewer.models_reading import Measured, froc_curve
from viewer.reading import Lake, Row
from viewer.text import escaped, estimate

SPLITS = ("test", "validation", "train")
COUNTS = ("tp", "fn", "fp", "tn")


@dataclass(frozen=True)
class Subject:
    """A model, what was measured of it, and the letter that it goes by beside another; none alone."""

    model: Row
    measured: Measured
    letter: str | None = None

    @property
    def name(self) -> str:
        """What its series is called."""
        return f"{self.letter} · {self.model['model_id']}"


@dataclass(frozen=True)
class View:
    """What the charts show. split: that two models are shown on; None: all splits of one model."""

    subjects: Sequence[Subject]
    split: str | None

    @property
    def names(self) -> list[str]:
        """The series in their order."""
        return list(SPLITS) if self.split is None else [subject.name for subject in self.subjects]

    def rows(self, name: str) -> pl.DataFrame:
        """The frame of that name of every subject, with a column `series`."""
        return pl.concat([self._named(subject, getattr(subject.measured, name)) for subject in self.subjects])

    def _named(self, subject: Subject, frame: pl.DataFrame) -> pl.DataFrame:
        if self.split is None:
            return frame.with_columns(series=pl.col("split"))
        return frame.filter(split=self.split).with_columns(series=pl.lit(subject.name))


def show_curves(view: View) -> None:
    """Show ROC, precision and recall, and reliability."""
    roc, precision, reliable = st.columns(3, gap="medium")
    with roc:
        st.subheader("ROC", help="Of labelled patches, on all of the model's thresholds.")
        missing = "No split has tumor and normal patches that are labelled and scored."
        _show_curve(view, "roc", charts.roc, "ROC curve", missing)
    with precision:
        st.subheader(
            "Precision and recall", help="Of labelled patches. Chance has the precision that tumor has a share."
        )
        missing = "No split has tumor patches that are labelled and scored."
        _show_curve(view, "precision_recall", charts.precision_recall, "Precision over recall", missing)
    with reliable:
        st.subheader("Reliability", help="Patches by tenths of their probability; larger marks stand for more patches.")
        missing = "No labelled patch is scored."
        _show_curve(view, "reliability", charts.reliability, "Fraction of tumor over probability", missing)


def _show_curve(
    view: View, name: str, chart: Callable[[pl.DataFrame, Sequence[str]], LayerChart], alt: str, missing: str
) -> None:
    curve = view.rows(name)
    if curve.is_empty():
        st.info(f"{missing} {_LABELS}")
    else:
        draw(chart(curve, view.names), alt)


_LABELS = "`histolake ingest --annotations` and `histolake run` label patches, `histolake predict` scores them."


def show_confusion(view: View) -> None:
    """Show what patches are and are called, at each model's own threshold, as it was measured."""
    thresholds = ", ".join(
        f"{subject.letter + ': ' if subject.letter else ''}{subject.model['threshold']:.3g}"
        for subject in view.subjects
    )
    st.subheader("Confusion", help="As `histolake evaluate` counted it. Shares are of what the patches are.")
    st.caption(escaped(f"Patches, at a probability of {thresholds}"))
    measured = view.rows("metrics").filter(pl.col("scope") == "patch", pl.col("name").is_in(COUNTS))
    if measured.is_empty():
        st.info("Nothing was counted yet: `histolake evaluate` does it.")
        return
    draw(charts.confusion(confusion(measured, view.names)), "Confusion of patches by series", width=None)


def confusion(measured: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The counts tp, fn, fp and tn of every series as squares: actual, called, patches and share of the actual."""
    return (
        measured.with_columns(
            actual=pl.when(pl.col("name").is_in(["tp", "fn"])).then(pl.lit("tumor")).otherwise(pl.lit("normal")),
            called=pl.when(pl.col("name").is_in(["tp", "fp"])).then(pl.lit("tumor")).otherwise(pl.lit("normal")),
            patches=pl.col("value").cast(pl.Int64),
        )
        .with_columns(share=pl.col("value") / pl.col("value").sum().over("series", "actual"))
        .with_columns(pl.col("share").fill_nan(None))
        .sort(pl.col("series").cast(pl.Enum(names)))
        .select("series", "actual", "called", "patches", "share")
    )


def show_slides(view: View) -> None:
    """Show the score of every slide by what the slide is, and how well scores tell tumor from normal."""
    st.subheader("Slides", help="A slide's own score has no interval; the AUC over slides has.")
    scores = view.rows("slide_scores")
    if scores.is_empty():
        flattered = all(subject.model["protocol"] == "patch_random" for subject in view.subjects)
        st.info(
            "Slides are not scored by a model that has seen patches of every slide."
            if flattered
            else "No slide is scored yet: `histolake predict` and `histolake evaluate` do it."
        )
        return
    kinds = scores["name"].unique().sort().to_list()
    default = "mean_top10" if "mean_top10" in kinds else kinds[0]
    kind = st.segmented_control(
        "Score",
        kinds,
        default=default,
        required=True,
        key="slide score",
        format_func=lambda name: _SCORES.get(name, name),
    )
    shown = scores.filter(name=kind)
    aucs = view.rows("metrics").filter(scope="slide", name=f"auc_{kind}").drop_nulls("value")
    if not aucs.is_empty():
        told = [_told(row) for row in aucs.sort(_order(view)).to_dicts()]
        st.caption(escaped(f"AUC over slides: {'; '.join(told)}"))
    draw(charts.slide_scores(shown, view.names), "Scores of slides by label")
    with st.expander("As a table"):
        table = shown.with_columns(open=_links(view, shown)).select(list(_COLUMNS))
        st.dataframe(table, hide_index=True, column_config=_COLUMNS, placeholder="")


_COLUMNS = {
    "slide_id": st.column_config.TextColumn("Slide", pinned=True),
    "open": st.column_config.LinkColumn("Viewer", display_text="open"),
    "series": st.column_config.TextColumn("Of"),
    "label": st.column_config.TextColumn("Label"),
    "score": st.column_config.NumberColumn("Score", format="%.3f"),
}
_SCORES = {"max": "highest", "mean_top10": "mean of top 10", "logistic": "logistic"}


def _links(view: View, scores: pl.DataFrame) -> pl.Series:
    ids: dict[str, str] = {subject.name: subject.model["model_id"] for subject in view.subjects if subject.letter}
    only: str = view.subjects[0].model["model_id"]
    urls = [
        slide_link(slide_id, ids.get(series, only)) for slide_id, series in scores.select("slide_id", "series").rows()
    ]
    return pl.Series(urls, dtype=pl.String)


def slide_link(slide_id: str, model_id: str) -> str:
    """The address of the viewer's page of a slide, relative to this app's pages."""
    return f"viewer?{urlencode({'slide': slide_id, 'model': model_id})}"


def show_froc(lake: Lake, view: View) -> None:
    """Show the lesion task: sensitivity at the challenge's six rates, and the whole curve when it is asked for."""
    st.subheader("FROC", help="Lesions found over false positives a slide, as Camelyon16 counts them; 95 % intervals.")
    metrics = view.rows("metrics").filter(scope="lesion")
    points = _rates(metrics)
    if points.is_empty():
        st.info(
            "No lesion is outlined on a scored slide that is held out or trained on by slide: "
            "`histolake ingest --annotations` brings outlines, `histolake evaluate` measures."
        )
        return
    means = metrics.filter(name="froc").drop_nulls("value").sort(_order(view)).to_dicts()
    lesions = dict(metrics.filter(name="lesions").select("series", "value").iter_rows())
    cells = ", ".join(
        f"{row['series']} {row['value']:,.0f}" for row in metrics.filter(name="itcs").sort(_order(view)).to_dicts()
    )
    told = [f"{_told(row)} of {lesions.get(row['series'], 0):,.0f} lesions" for row in means]
    st.caption(
        escaped(
            f"Mean of the six rates: {'; '.join(told)}. Left out are isolated tumor cells, whose major axis is below "
            f"275 microns ({cells}): hits on them count neither way."
        )
    )
    curve = None
    help_ = "Lays every detection over the outlines again: on a large lake that takes a while."
    if st.toggle("Whole curve", key="whole curve", help=help_):
        curve = _whole_curve(lake, view)
    draw(charts.froc(points, curve, view.names), "FROC")


def _rates(metrics: pl.DataFrame) -> pl.DataFrame:
    """The stored sensitivities: rate, value, low, high, series."""
    prefix = "sensitivity_at_"
    return (
        metrics.filter(pl.col("name").str.starts_with(prefix))
        .drop_nulls("value")
        .with_columns(rate=pl.col("name").str.strip_prefix(prefix).cast(pl.Float64))
        .select("rate", "value", "low", "high", "series")
        .sort("series", "rate")
    )


def _whole_curve(lake: Lake, view: View) -> pl.DataFrame | None:
    curves = []
    for subject in view.subjects:
        stored = subject.measured.metrics.filter(scope="lesion")
        if not stored.is_empty():
            model = subject.model
            curve = froc_curve(lake, model["model_id"], model["patch_set"], stored["parameters"][0])
            kept = curve if view.split is None else curve.filter(split=view.split)
            curves.append(kept.with_columns(series=pl.col("split") if view.split is None else pl.lit(subject.name)))
    return pl.concat(curves) if curves else None


def _told(row: Row) -> str:
    return f"{row['series']} {estimate(row['value'], row['low'], row['high'])}"


def _order(view: View) -> pl.Expr:
    return pl.col("series").cast(pl.Enum(view.names))
