"""The table of models, and the choice of one or two of them, which the address keeps."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from viewer.reading import Row
from viewer.table import height
from viewer.text import escaped, interval

_TEXT, _NUMBER = st.column_config.TextColumn, st.column_config.NumberColumn
_COLUMNS: dict[str, Any] = {
    "model_id": _TEXT("Model", pinned=True),
    "role": _TEXT("Role", help="The champion is what other pages show by default"),
    "validation_auc": _NUMBER("Validation AUC", format="%.3f", help="Of labelled patches"),
    "validation_auc_95": _TEXT("95 %"),
    "test_auc": _NUMBER("Test AUC", format="%.3f", help="Of labelled patches"),
    "test_auc_95": _TEXT("95 %"),
    "slide_auc": _NUMBER("Test slide AUC", format="%.3f", help="Of the mean of a slide's ten highest probabilities"),
    "slide_auc_95": _TEXT("95 %"),
    "froc": _NUMBER("Test FROC", format="%.3f", help="Mean sensitivity at 1/4 to 8 false positives a slide"),
    "froc_95": _TEXT("95 %"),
    "protocol": _TEXT("Protocol"),
    "head": _TEXT("Head"),
    "calibration": _TEXT("Calibration"),
    "threshold": _NUMBER("Threshold", format="%.3g", help="Probability from which on a patch counts as tumor"),
    "encoder_id": _TEXT("Encoder"),
    "patch_set": _TEXT("Tiling"),
    "label_rule": _TEXT("Label rule"),
    "trained_at": st.column_config.DatetimeColumn("Trained (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC"),
    "mlflow_run_id": _TEXT("MLflow run"),
}


def show_list(models: pl.DataFrame) -> None:
    """Show every model, the champion first, with the numbers that it is known by."""
    roles = pl.when("is_champion").then(pl.lit("champion")).otherwise(pl.lit("")).alias("role")
    numbers = ("validation_auc", "test_auc", "slide_auc", "froc")
    intervals = [interval(f"{name}_low", f"{name}_high").alias(f"{name}_95") for name in numbers]
    st.dataframe(
        models.with_columns(roles, *intervals).select(list(_COLUMNS)),
        hide_index=True,
        column_config=_COLUMNS,
        placeholder="",
        height=height(models.height, 8),
        alt=f"{models.height:,} models, the champion first",
    )


def choose(models: pl.DataFrame) -> tuple[Row, Row | None]:
    """The model to show, by default the first, and another to compare it with, if any."""
    rows: dict[str, Row] = {row["model_id"]: row for row in models.to_dicts()}
    first, second = st.columns(2)
    with first:
        chosen = _choose("model", "Model", rows, list(rows), next(iter(rows)))
    shown = chosen or next(iter(rows))
    with second:
        others = [model_id for model_id in rows if model_id != shown]
        compared = _choose("compare", "Compare with", rows, others, None)
    return rows[shown], rows[compared] if compared else None


def _choose(name: str, label: str, rows: dict[str, Row], ids: list[str], default: str | None) -> str | None:
    """A selection whose value is the address's ?name=."""
    named = st.query_params.get(name)
    if named and named not in ids:
        others = f"; there are {', '.join(ids)}" if ids else ""
        st.error(escaped(f"{name}={named}: the lake has no other model of this id{others}."))
    key = f"chosen {name}"
    st.session_state[key] = named if named in ids else default
    chosen: str | None = st.selectbox(
        label,
        ids,
        key=key,
        index=None if default is None else 0,
        placeholder="No other model" if not ids else "Choose another model",
        disabled=not ids,
        format_func=lambda model_id: _title(rows[model_id]),
        on_change=_name_in_address,
        args=(name, key),
    )
    return chosen


def _name_in_address(name: str, key: str) -> None:
    chosen = st.session_state[key]
    if chosen is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = chosen


def _title(model: Row) -> str:
    role = "champion · " if model["is_champion"] else ""
    return f"{model['model_id']} · {role}{model['head']} · {model['encoder_id']} · {model['protocol']}"


def show_facts(model: Row) -> None:
    """Say what the model is, and what speaks against believing its numbers."""
    lines = [
        f"Model {model['model_id']} ({model['uri']}), {model['head']} on {model['encoder_id']}, "
        f"tiling {model['patch_set']}, labels by {model['label_rule']}, calibration {model['calibration']}, "
        f"threshold {model['threshold']:.3g}",
        f"Trained {model['trained_at']:%Y-%m-%d %H:%M} UTC by histolake {model['code_version']}, "
        f"protocol {model['protocol']}, MLflow run {model['mlflow_run_id']}; "
        f"`histolake reproduce {model['model_id']}` trains it again and compares",
    ]
    st.caption("  \n".join(escaped(line) for line in lines))
    if model["protocol"] == "patch_random":
        st.warning(
            escaped(
                f"Model {model['model_id']} was trained on patches of every slide, of test slides too: its numbers "
                "flatter, and it cannot be the champion."
            )
        )
    if model["leaked_slides"]:
        st.warning(
            escaped(
                f"Model {model['model_id']} was trained on {model['leaked_slides']:,} slides that are held out now: "
                "its numbers flatter. `histolake train` makes a model that has not seen them."
            )
        )
