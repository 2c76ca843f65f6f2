"""Measures a model's predictions against the labels, by the queries in sql/metrics."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake import models, session, store
from lake.sql_files import query
from lake.tables import METRICS
from udfs.errors import ModelError

THRESHOLD = 0.5  # probability from which on a patch counts as tumor
TABLES_READ = ("slides", "annotations", "patches", "labels", "predictions")


def evaluate(root: Path, *, model: str | None, run_id: str) -> pl.DataFrame:
    """Compute the patch metrics of a model (the champion's by default) and store them in `metrics`.

    Returns split, name, value. Numbers equal to the stored ones are not written again.
    Raises ModelError when the model has no predictions on labelled patches.
    """
    row = models.find(root, model)
    selection = {name: row[name] for name in ("model_id", "patch_set")}
    with session.connect(root, read_only=False, udfs=()) as con:
        result = con.execute(query("metrics/patch"), {**selection, "threshold": THRESHOLD}).pl()
        versions = {name: number for name, number in session.versions(con).items() if name in TABLES_READ}
        stored = con.table("metrics").pl()
    if result.is_empty():
        raise ModelError(
            f"model {row['model_id']} has no prediction on a labelled patch of {row['patch_set']}; "
            "`histolake predict` scores, `histolake ingest --annotations` and `histolake run` label"
        )
    measured = result.with_columns(
        model_id=pl.lit(row["model_id"]),
        patch_set=pl.lit(row["patch_set"]),
        protocol=pl.lit("by_slide"),
        scope=pl.lit("patch"),
        encoder_id=pl.lit(row["encoder_id"]),
        mlflow_run_id=pl.lit(row["mlflow_run_id"]),
        low=pl.lit(None, pl.Float64),
        high=pl.lit(None, pl.Float64),
        table_versions=pl.lit(json.dumps(versions, sort_keys=True)),
    )
    columns = [*METRICS.key, "value"]
    if measured.join(stored, on=columns, how="anti", nulls_equal=True).height:
        now = datetime.now(UTC)
        rows: list[dict[str, Any]] = [{**each, "measured_at": now} for each in measured.to_dicts()]
        store.put(root, "metrics", rows, run_id)
    return result
