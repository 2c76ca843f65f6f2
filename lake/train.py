"""Trains the patch classifier on the lake's features and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from lake import models, session, store
from lake.heads import HEADS
from lake.selection import Chosen, TrainingSet, choose
from lake.sql_files import query
from udfs.errors import ModelError

TABLES_READ = ("slides", "annotations", "patches", "labels", "features", "runs")  # runs: which annotations hold


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what. All of it is part of the model's identity and a column of `models`."""

    patch_set: str
    encoder_id: str
    label_rule: str
    head: str = "logistic"


def recipe_of(model: Mapping[str, Any]) -> Recipe:
    """How a model was trained, by its row of `models`."""
    return Recipe(**{field.name: model[field.name] for field in fields(Recipe)})


@dataclass(frozen=True)
class Learned:
    """A fitted classifier. estimator: scikit-learn's, classes 0 and 1. model_id: hash of the recipe and of it."""

    model_id: str
    estimator: Any
    chosen: Chosen


@dataclass(frozen=True)
class Trained:
    """What training made. metrics: by MLflow's names. is_new: False when the lake had this model."""

    model_id: str
    uri: str
    mlflow_run_id: str
    metrics: Mapping[str, float]
    is_new: bool


def train(root: Path, recipe: Recipe, *, run_id: str) -> Trained:
    """Fit the recipe's head, choose its parameters without looking at test, log and register it.

    The model becomes the champion. Raises ModelError when there is nothing to learn from, or no such head.
    """
    with session.connect(root, read_only=False, udfs=()) as con:
        versions = {name: number for name, number in session.versions(con).items() if name in TABLES_READ}
        known = _trained_on(root, recipe, versions)
        if known is None:
            data = training_set(con, recipe)
            tiling = con.execute(
                "select patch_px, mpp from patch_sets where patch_set = $name", {"name": recipe.patch_set}
            ).pl()
    if known is None:
        learned = learn(data, recipe)
        known = next((row for row in models.rows(root) if row["model_id"] == learned.model_id), None)
    if known is not None:
        models.make_champion(root, known, run_id)
        return Trained(known["model_id"], known["uri"], known["mlflow_run_id"], {}, is_new=False)

    from lake.training_log import log

    logged = log(root, learned, data, asdict(recipe), versions)
    row = {**asdict(recipe), **logged.columns, **tiling.row(0, named=True), "model_id": learned.model_id}
    row |= {"dims": data.x.shape[1], "table_versions": json.dumps(versions), "code_version": store.CODE_VERSION}
    row |= {"protocol": "by_slide", "calibration": "none", "threshold": 0.5}
    store.put(root, "models", [row], run_id)
    models.make_champion(root, row, run_id)
    return Trained(learned.model_id, row["uri"], row["mlflow_run_id"], logged.metrics, is_new=True)


def _trained_on(root: Path, recipe: Recipe, versions: Mapping[str, int]) -> dict[str, Any] | None:
    """The model that was trained on just these tables; fitting is deterministic, so it would come out again."""
    wanted = {**asdict(recipe), "code_version": store.CODE_VERSION}
    for row in models.rows(root):
        is_alike = all(row[name] == value for name, value in wanted.items())
        if is_alike and _without_ledger(json.loads(row["table_versions"])) == _without_ledger(versions):
            return row
    return None


def _without_ledger(versions: Mapping[str, int]) -> dict[str, int]:
    """The versions but for the ledger's, which every command raises."""
    return {name: number for name, number in versions.items() if name != "runs"}


def training_set(con: duckdb.DuckDBPyConnection, recipe: Recipe) -> TrainingSet:
    """The rows of sql/training_set.sql.

    Raises ModelError when no row of the training split is there, or only one class is.
    """
    selection = {"patch_set": recipe.patch_set, "encoder_id": recipe.encoder_id, "label_rule": recipe.label_rule}
    rows = con.execute(query("training_set"), selection).to_arrow_table()
    column = rows["embedding"].combine_chunks()
    dims = len(column[0]) if len(column) else 0
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if dims and len(flat) != dims * len(rows):
        raise ModelError("embeddings of one encoder differ in length; `histolake check` names the rows")
    data = TrainingSet(
        flat.reshape(len(rows), dims),
        rows["label"].to_numpy().astype(np.int64),
        rows["slide_id"].to_numpy().astype(str),
        rows["split"].to_numpy() == "validation",
    )
    described = ", ".join(f"{name} {value}" for name, value in selection.items())
    in_training = data.y[~data.is_validation]
    if not len(in_training):
        raise ModelError(
            f"no labelled patch of a training slide has features ({described}); "
            "ingest annotations, or give slides the split 'train', then `histolake run`"
        )
    if len(np.unique(in_training)) < 2:
        only = "tumor" if in_training[0] else "normal"
        raise ModelError(
            f"all {len(in_training)} labelled training patches are {only} ({described}); "
            "ingest slides or annotations with the other class into the training split"
        )
    return data


def learn(data: TrainingSet, recipe: Recipe) -> Learned:
    """Choose the parameters of the recipe's head and fit it to the training split; writes nothing.

    The same data and recipe give the same classifier, bit for bit: sums are made by one thread, in one order.
    Raises ModelError when there is no such head.
    """
    from joblib import hash as hash_of
    from threadpoolctl import threadpool_limits

    if recipe.head not in HEADS:
        raise ModelError(f"--head {recipe.head}: no such head; there are {', '.join(HEADS)}")
    head = HEADS[recipe.head]
    rows = ~data.is_validation
    with threadpool_limits(1, user_api="blas"):
        chosen = choose(head, data)
        estimator = head.fit(data.x[rows], data.y[rows], **chosen.parameters)
    model_id = str(hash_of([asdict(recipe), estimator], hash_name="sha1"))[:12]
    return Learned(model_id, estimator, chosen)
