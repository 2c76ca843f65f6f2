"""Measures a model's predictions against labels, slides and lesions, and stores the numbers with all behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from lake import models, session, store
from lake.choices import Peaks
from lake.lesions import FUNCTIONS, detect, lesion_metrics
from lake.patch_metrics import patch_metrics
from lake.progress import Progress
from lake.slide_scores import score_slides, slide_metrics
from lake.sql_files import query
from lake.tables import METRICS
from lake.worker import Executor, local
from udfs.errors import ModelError

BY_SLIDE = "by_slide"
TABLES_READ = {
    "patch": ("slides", "annotations", "labels", "predictions"),
    "slide": ("slides", "annotations", "patches", "predictions", "detections", "slide_scores"),
    "lesion": ("slides", "annotations", "patches", "predictions", "detections"),
}
"""The tables whose versions a number of each scope carries; rows of models, patch_sets and the seed never change."""
NOTHING = {
    "patch": "patches: none is labelled and scored; `histolake ingest --annotations` and `histolake run` label",
    "slide": "slides: none is scored and known to be tumor or normal; annotations or a manifest's label would tell",
    "lesion": "lesions: no scored slide has outlines of its tumor, or is known to hold none; ingest annotations",
}


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model.

    model: its row of models. metrics: scope, split, name, value, low, high, parameters and table_versions (JSON).
    left_out: a sentence for each scope that has no answer. protocols: rows of sql/app/protocols.sql.
    """

    model: Mapping[str, Any]
    metrics: pl.DataFrame
    left_out: tuple[str, ...]
    protocols: pl.DataFrame


def evaluate(
    root: Path,
    *,
    model: str | None = None,
    peaks: Peaks | None = None,
    lesion_mpp: float | None = None,
    retry_failed: bool = False,
    run_id: str,
    executor: Executor = local,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model (the champion by default) on the tiling that it was trained on; store what is new in `metrics`.

    peaks: how detections are found. lesion_mpp: microns per pixel of every slide in the lesion task, see
    `lesion_metrics`. retry_failed: whether heatmaps whose peaks could not be found are looked at again.
    A model that held no slide out is measured on patches alone.
    Raises ModelError when nothing of it can be measured, or it was trained on slides that are held out now.
    """
    row = models.find(root, model)
    peaks, patch_set = peaks or Peaks(), row["patch_set"]
    with session.connect(root, read_only=False, udfs=()) as con:
        _refuse_leak(con, row)
    if row["protocol"] == BY_SLIDE:
        found = detect(
            root,
            row,
            patch_set=patch_set,
            peaks=peaks,
            retry_failed=retry_failed,
            run_id=run_id,
            executor=executor,
            progress=progress,
        )
        left_out = [f"detections of {slide_id} failed: {error}" for slide_id, error in found.failures]
        reason = score_slides(root, row, patch_set=patch_set, peaks=peaks, run_id=run_id)
        left_out += [reason] if reason else []
    else:
        left_out = [
            f"slides and lesions: not measured, for a model of {row['protocol']} has seen patches of every slide"
        ]
    with session.connect(root, udfs=FUNCTIONS) as con:
        numbers = {"patch": (patch_metrics(con, row["model_id"], patch_set), {"threshold": row["threshold"]})}
        if row["protocol"] == BY_SLIDE:
            lesions = lesion_metrics(con, row, patch_set=patch_set, peaks=peaks, mpp=lesion_mpp)
            numbers["slide"] = slide_metrics(con, row, patch_set=patch_set), peaks.parameters
            numbers["lesion"] = lesions, {**peaks.parameters, "mpp": lesion_mpp}
        measured = pl.concat([_described(con, scope, *each) for scope, each in numbers.items()])
        stored = con.table("metrics").pl()
    if measured.is_empty():
        raise ModelError(
            f"model {row['model_id']} has no prediction on {patch_set} that could be measured; "
            "`histolake predict` scores, `histolake ingest --annotations` and `histolake run` label"
        )
    _store(root, row, measured, stored, run_id)
    with session.connect(root, udfs=()) as con:
        protocols = con.execute(query("app/protocols"), {"model_id": row["model_id"]}).pl()
    left_out += [NOTHING[scope] for scope, (each, _) in numbers.items() if each.is_empty()]
    return Evaluation(row, measured, (*left_out, *_lacking(measured)), protocols)


def _lacking(measured: pl.DataFrame) -> Iterator[str]:
    """Why the main number of a scope has no answer in a split."""
    for scope, name, what in (
        ("slide", "tumor_slides", "no slide with tumor is scored, so there is no AUC over slides"),
        ("slide", "normal_slides", "no slide without tumor is scored, so there is no AUC over slides"),
        ("lesion", "lesions", "no lesion is outlined on scored slides, so there is no FROC"),
    ):
        empty = measured.filter(scope=scope, name=name, value=0)["split"].sort()
        if len(empty):
            yield f"{', '.join(empty)}: {what}"


def _refuse_leak(con: duckdb.DuckDBPyConnection, row: Mapping[str, Any]) -> None:
    leaked = con.table("leaked_slides").pl().filter(model_id=row["model_id"])
    if leaked.height:
        listed = ", ".join(f"{slide_id} ({split})" for _, slide_id, split in leaked.head(5).rows())
        more = f" and {leaked.height - 5} more" if leaked.height > 5 else ""
        raise ModelError(
            f"model {row['model_id']} was trained on slides that are held out now: {listed}{more}; its numbers "
            "would flatter; `histolake train` makes a model that has not seen them"
        )


def _described(
    con: duckdb.DuckDBPyConnection, scope: str, numbers: pl.DataFrame, parameters: Mapping[str, Any]
) -> pl.DataFrame:
    """The numbers of a scope with what they were computed with and from."""
    versions = {name: number for name, number in session.versions(con).items() if name in TABLES_READ[scope]}
    return numbers.select(
        pl.lit(scope).alias("scope"),
        *("split", "name", "value", "low", "high"),
        pl.lit(json.dumps(dict(parameters), sort_keys=True)).alias("parameters"),
        pl.lit(json.dumps(versions, sort_keys=True)).alias("table_versions"),
    )


def _store(root: Path, row: Mapping[str, Any], measured: pl.DataFrame, stored: pl.DataFrame, run_id: str) -> None:
    """Put the numbers of each scope in the place of those that were stored; nothing where they are the same."""
    owner = {name: row[name] for name in ("model_id", "patch_set", "protocol")}
    before = stored.filter(**owner).select(measured.columns)
    scopes = pl.concat([measured["scope"], before["scope"]]).unique().sort()
    changed = [name for name in scopes if not _same(measured.filter(scope=name), before.filter(scope=name))]
    if not changed:
        return
    facts = {name: row[name] for name in ("encoder_id", "mlflow_run_id")} | {"measured_at": datetime.now(UTC)}
    new = measured.filter(pl.col("scope").is_in(changed)).with_columns(
        pl.lit(value).alias(name) for name, value in {**owner, **facts}.items()
    )
    rows = new.select(METRICS.schema.names).to_arrow().cast(METRICS.schema)
    replacements = [store.Replacement({**owner, "scope": name}) for name in changed]
    store.replace(root, "metrics", rows, replacements, [store.entry("metrics", run_id=run_id, rows=len(rows))])


def _same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one.sort("split", "name").equals(other.sort("split", "name"))
