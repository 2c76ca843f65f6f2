"""Trains the patch classifier on the lake's features and labels, logs and registers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lake import deep, model_files, models, session, store
from lake.learning import Learned, learn
from lake.linear import line_of
from lake.recipe import BY_SLIDE, Recipe
from lake.selection import Labelled
from lake.training_rows import Reader, useful, whole


@dataclass(frozen=True)
class Trained:
    """What training made. metrics: by MLflow's names. is_new: False when the lake had this model."""

    model_id: str
    uri: str
    mlflow_run_id: str
    threshold: float
    metrics: Mapping[str, float]
    is_new: bool
    is_champion: bool


def train(root: Path, recipe: Recipe, *, run_id: str, read: Reader = whole) -> Trained:
    """Fit the recipe's head, choose all that is to be chosen without looking at test, log and register it.

    read: what reads the training set; see `engines.reader`. The model becomes the champion, unless its protocol let
    it see patches of test slides. Raises ModelError when there is nothing to learn from, or to calibrate on.
    """
    with session.connect(root, read_only=False, udfs=()) as con:
        versions = {name: number for name, number in session.versions(con).items() if name in recipe.tables}
        row = _trained_on(root, recipe, versions)
        if row is None:
            if recipe.head == "deep":
                deep.pytorch()  # before rows are read
            data = useful(read(con, root, recipe), recipe)
            tiling = con.execute(
                "select patch_px, mpp from patch_sets where patch_set = $name", {"name": recipe.patch_set}
            ).pl()
    metrics: Mapping[str, float] = {}
    is_new = False
    if row is None:
        learned = learn(data, recipe)
        row = next((each for each in models.rows(root) if each["model_id"] == learned.model_id), None)
    if row is None:
        from lake.training_log import log

        is_new, logged = True, log(root, learned, data, asdict(recipe), versions)
        metrics = logged.metrics
        row = {
            **recipe.columns,
            **logged.columns,
            **tiling.row(0, named=True),
            **_line_columns(learned, data),
            "model_id": learned.model_id,
            "dims": data.dims,
            "threshold": learned.threshold,
            "training_slides": json.dumps(np.unique(data.slides[~data.is_validation]).tolist()),
            "table_versions": json.dumps(versions),
            "code_version": store.CODE_VERSION,
        }
        model_files.write(root, learned.model_id, model_files.file_of(learned.estimator), run_id)
        store.put(root, "models", [row], run_id)
    is_champion = recipe.protocol == BY_SLIDE
    if is_champion:
        models.make_champion(root, row, run_id)
    identity = (row["model_id"], row["uri"], row["mlflow_run_id"], row["threshold"])
    return Trained(*identity, metrics, is_new=is_new, is_champion=is_champion)


def _line_columns(learned: Learned, data: Labelled) -> dict[str, Any]:
    """What SQL's predict computes with, where the model is linear."""
    line = line_of(learned.estimator)
    return {} if line is None else {**line.columns, "sum_bits": data.sum_bits(line)}


def _trained_on(root: Path, recipe: Recipe, versions: Mapping[str, int]) -> dict[str, Any] | None:
    """The model that was trained on just these tables; fitting is deterministic, so it would come out again."""
    wanted = {**recipe.columns, "code_version": store.CODE_VERSION}
    for row in models.rows(root):
        is_alike = all(row[name] == value for name, value in wanted.items())
        if is_alike and _without_ledger(json.loads(row["table_versions"])) == _without_ledger(versions):
            return row
    return None


def _without_ledger(versions: Mapping[str, int]) -> dict[str, int]:
    """The versions but for the ledger's, which every command raises."""
    return {name: number for name, number in versions.items() if name != "runs"}
