"""The runs that the lake's MLflow holds, read when they are asked for: importing it takes more than a second."""

from __future__ import annotations

import polars as pl
import streamlit as st

from lake.mlflow_runs import Run
from udfs.errors import HistolakeError
from viewer.models_reading import mlflow_runs
from viewer.reading import Lake, Row
from viewer.table import utc
from viewer.text import escaped

_COLUMNS = {
    "run_id": st.column_config.TextColumn("Run", pinned=True),
    "status": st.column_config.TextColumn("Status"),
    "started_at": utc("Started"),
    "seconds": st.column_config.NumberColumn("Seconds", format="%.1f"),
    "version": st.column_config.TextColumn("Registered version"),
    "model_id": st.column_config.TextColumn("Model in the lake"),
    "name": st.column_config.TextColumn("Name"),
}


def show_runs(lake: Lake, models: pl.DataFrame, model: Row) -> None:
    """Show MLflow's runs beside the lake's models, and the parameters and metrics of one, by default the model's."""
    st.subheader("MLflow")
    if not st.toggle("Show the runs that MLflow holds", key="mlflow"):
        return
    try:
        runs = mlflow_runs(lake)
    except HistolakeError as error:
        st.error(escaped(str(error)))
        return
    if not runs:
        st.info("MLflow has no run of this lake; its folder mlflow was not copied with it, perhaps.")
        return
    ids = dict(models.select("mlflow_run_id", "model_id").iter_rows())
    rows = [{**{name: getattr(run, name, None) for name in _COLUMNS}, "model_id": ids.get(run.run_id)} for run in runs]
    st.dataframe(pl.DataFrame(rows, infer_schema_length=None), hide_index=True, column_config=_COLUMNS, placeholder="")
    if model["mlflow_run_id"] not in {run.run_id for run in runs}:
        st.warning(escaped(f"The run {model['mlflow_run_id']} of model {model['model_id']} is gone from MLflow."))
    _show_run(runs, model["mlflow_run_id"])


def _show_run(runs: list[Run], run_id: str) -> None:
    by_id = {run.run_id: run for run in runs}
    first = list(by_id).index(run_id) if run_id in by_id else 0
    run = by_id[st.selectbox("Run", list(by_id), index=first)]
    parameters, metrics = st.columns(2, gap="large")
    with parameters:
        frame = pl.DataFrame(sorted(run.parameters.items()), {"parameter": pl.String, "value": pl.String}, orient="row")
        st.dataframe(frame, hide_index=True)
    with metrics:
        frame = pl.DataFrame(sorted(run.metrics.items()), {"metric": pl.String, "value": pl.Float64}, orient="row")
        st.dataframe(frame, hide_index=True, column_config={"value": st.column_config.NumberColumn(format="%.6g")})
    st.caption("MLflow's own pages of these runs, from the lake's folder:")
    st.code("mlflow ui --backend-store-uri sqlite:///mlflow/mlflow.db", language="bash")
