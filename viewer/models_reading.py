"""What the models page reads, kept until the lake changes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl
import streamlit as st

from lake import lesions
from lake.choices import Peaks, lake_path
from lake.compare import Comparison, compare
from lake.ledger import ask
from lake.mlflow_runs import Run, runs
from lake.sql_files import query
from viewer.reading import Lake, connection, ledger_entries

CURVE_POINTS = 200  # along an axis: more than a chart can show


@dataclass(frozen=True)
class Measured:
    """A model's metrics, and the curves and scores that follow from what it predicts now: rows of sql/app."""

    metrics: pl.DataFrame
    roc: pl.DataFrame
    precision_recall: pl.DataFrame
    reliability: pl.DataFrame
    slide_scores: pl.DataFrame
    protocols: pl.DataFrame


@st.cache_data(max_entries=4, show_spinner="Reading the models …")
def model_list(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/model_list.sql."""
    with connection(lake) as con:
        return con.execute(query("app/model_list")).pl()


@st.cache_data(max_entries=4, show_spinner=False)
def champion_history(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/champion_history.sql."""
    return ask(ledger_entries(lake), "app/champion_history")


@st.cache_data(max_entries=16, show_spinner="Reading what was measured …")
def measured(lake: Lake, model_id: str) -> Measured:
    """What is known of a model."""
    model, curve = {"model_id": model_id}, {"model_id": model_id, "points": CURVE_POINTS}
    with connection(lake) as con:
        return Measured(
            con.execute(query("app/model_metrics"), model).pl(),
            con.execute(query("app/roc_curve"), curve).pl(),
            con.execute(query("app/precision_recall"), curve).pl(),
            con.execute(query("app/reliability"), model).pl(),
            con.execute(query("app/slide_score_list"), model).pl(),
            con.execute(query("app/protocols"), model).pl(),
        )


@st.cache_data(max_entries=16, show_spinner="Laying detections over outlines …")
def froc_curve(lake: Lake, model_id: str, patch_set: str, parameters: str) -> pl.DataFrame:
    """The official curve of sql/metrics/froc_curve.sql. parameters: of the stored lesion metrics, JSON."""
    told = json.loads(parameters)
    mpp = told.pop("mpp")
    with connection(lake, lesions.FUNCTIONS) as con:
        model = {"model_id": model_id}
        found = lesions.findings(con, model, patch_set=patch_set, peaks=Peaks(**told), mpp=mpp)
        return lesions.froc_curve(con, found).filter(variant="official")


@st.cache_data(max_entries=8, show_spinner="Comparing the models …")
def comparison(lake: Lake, model_a: str, model_b: str) -> Comparison:
    """What differs between two models; raises ModelError where they have no scored tiling in common."""
    return compare(lake_path(lake.root), model_a, model_b)


@st.cache_data(max_entries=4, show_spinner="Asking MLflow …")
def mlflow_runs(lake: Lake) -> list[Run]:
    """What the lake's MLflow holds of its runs."""
    return runs(lake_path(lake.root))
