"""The models' numbers as tables: every split with its intervals, and both protocols side by side."""

from __future__ import annotations

import polars as pl
import streamlit as st

from viewer.models_panels import SPLITS, Subject
from viewer.text import escaped, interval

SCOPES = {"patch": "patches", "slide": "slides", "lesion": "lesions"}
COUNTS = {
    "patches": "patches",
    "tp": "true positives",
    "fp": "false positives",
    "tn": "true negatives",
    "fn": "false negatives",
    "tumor_slides": "tumor slides",
    "normal_slides": "normal slides",
    "slides": "slides",
    "lesions": "lesions",
    "lesions_found": "lesions found",
    "itcs": "isolated tumor cells, left out",
    "false_positives": "false positives",
}
NAMES = COUNTS | {
    "auc": "AUC",
    "ece": "expected calibration error",
    "brier": "Brier score",
    "f1": "F1",
    "auc_max": "AUC of the highest probability",
    "auc_mean_top10": "AUC of the mean of the ten highest",
    "auc_logistic": "AUC of the logistic score",
    "froc": "FROC, mean of the six rates",
    "froc_ncrf": "FROC, NCRF's variant",
    **{
        f"sensitivity_at_{rate}": f"sensitivity at {rate} false positives"
        for rate in ("0.25", "0.5", "1", "2", "4", "8")
    },
}

PROTOCOLS = ("by_slide", "patch_random", "difference")


def show_state(subject: Subject) -> bool:
    """Say when the model was measured and what is outdated; returns whether it was measured."""
    model, metrics = subject.model, subject.measured.metrics
    of_it = "" if model["is_champion"] else f" --model {model['model_id']}"
    if metrics.is_empty():
        st.info(
            escaped(
                f"Nothing was measured of model {model['model_id']} yet: `histolake predict{of_it}` scores patches, "
                f"`histolake evaluate{of_it}` measures."
            )
        )
        return False
    outdated = metrics.filter(~pl.col("is_current"))["scope"].unique()
    if len(outdated):
        scopes = " and ".join(word for scope, word in SCOPES.items() if scope in outdated)
        st.warning(
            escaped(
                f"The lake has changed since {scopes} of model {model['model_id']} were measured: "
                f"`histolake evaluate{of_it}` brings the numbers up to date."
            )
        )
    measured_at = str(metrics["measured_at"].dt.strftime("%Y-%m-%d %H:%M").max())
    st.caption(escaped(f"Model {model['model_id']} was measured {measured_at} UTC; it was fitted on train."))
    return True


def show_tables(metrics: pl.DataFrame) -> None:
    """Show the numbers of every scope and split with their 95 % intervals, and the counts behind them."""
    splits = [split for split in SPLITS if split in metrics["split"]]
    for scope, title in SCOPES.items():
        measured = metrics.filter(scope=scope)
        if measured.is_empty():
            continue
        st.markdown(f"**Of {title}**")
        is_count = pl.col("name").is_in(list(COUNTS))
        rates, counts = st.columns([3, 2], gap="large")
        with rates:
            _show_rates(measured.filter(~is_count), splits)
        with counts:
            _show_counts(measured.filter(is_count), splits)


def _show_rates(measured: pl.DataFrame, splits: list[str]) -> None:
    values = _by_split(measured, "value", splits).sort("name")
    ends = _by_split(measured.with_columns(interval=interval("low", "high")), "interval", splits)
    shown = values.join(ends, on="name", suffix=" 95 %", maintain_order="left")
    shown = shown.select("name", *(column for split in splits for column in (split, f"{split} 95 %")))
    config = {split: st.column_config.NumberColumn(format="%.3f") for split in splits}
    st.dataframe(_readable(shown, "metric"), hide_index=True, column_config=config, placeholder="")


def _show_counts(measured: pl.DataFrame, splits: list[str]) -> None:
    shown = _by_split(measured, "value", splits).with_columns(pl.col(splits).cast(pl.Int64))
    config = {split: st.column_config.NumberColumn(format="localized") for split in splits}
    shown = shown.sort(pl.col("name").cast(pl.Enum(list(COUNTS))))
    st.dataframe(_readable(shown, "count"), hide_index=True, column_config=config, placeholder="")


def _by_split(metrics: pl.DataFrame, column: str, splits: list[str]) -> pl.DataFrame:
    wide = metrics.pivot(on="split", index="name", values=column, aggregate_function="first")
    return wide.with_columns(pl.lit(None).alias(split) for split in splits if split not in wide.columns).select(
        "name", *splits
    )


def _readable(frame: pl.DataFrame, title: str) -> pl.DataFrame:
    names = {name: called(name) for name in frame["name"]}
    return frame.with_columns(pl.col("name").replace(names)).rename({"name": title})


def show_protocols(subject: Subject) -> None:
    """Show the patch metrics by slide beside those of a like model that was split by patch: what leakage flatters."""
    st.subheader("Both protocols", help="Of patches. By slide: no slide, and no patient, is on two sides.")
    rows = subject.measured.protocols
    if rows.is_empty():
        st.info(
            "A model of the protocol by_slide is compared here with one of patch_random that is like it; there are no "
            "two such models that were measured. `histolake train --protocol patch_random`, then "
            "`histolake predict --model MODEL` and `histolake evaluate --model MODEL` show how much a split by patch "
            "flatters; such a model never becomes the champion."
        )
        return
    other = rows["patch_random_model_id"][0]
    st.caption(
        escaped(
            f"Model {other} was trained by the protocol patch_random: it has seen other patches of the slides that it "
            "is tested on. What such leakage flatters is in the difference; only the numbers by slide tell what to "
            "expect of a new slide."
            + ("" if rows["is_comparable"].all() else " The two were not measured on the same tables.")
        )
    )
    kept = rows.filter(~pl.col("name").is_in(list(COUNTS)))
    shown = kept.select(
        "name",
        "split",
        "by_slide",
        interval("by_slide_low", "by_slide_high").alias("by slide 95 %"),
        "patch_random",
        interval("patch_random_low", "patch_random_high").alias("patch random 95 %"),
        "difference",
    ).sort(pl.col("split").cast(pl.Enum(SPLITS)), "name")
    config = {name: st.column_config.NumberColumn(name.replace("_", " "), format="%.3f") for name in PROTOCOLS}
    st.dataframe(_readable(shown, "metric"), hide_index=True, column_config=config, placeholder="")


def called(name: str) -> str:
    """The name of a metric as people say it."""
    return NAMES.get(name, name.replace("_", " "))
