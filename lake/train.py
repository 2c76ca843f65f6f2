"""Trains the patch classifier on the lake's features and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lake import deep, model_files, models, session, store
from lake.choices import CALIBRATIONS
from lake.decision import best_threshold, calibrated
from lake.heads import HEADS
from lake.linear import line_of
from lake.selection import Chosen, Labelled, choose, has_both_classes
from lake.training_rows import Reader, useful, whole
from udfs.errors import ModelError

TABLES_READ = ("slides", "annotations", "patches", "labels", "features", "runs")  # runs: which annotations hold
BY_SLIDE = "by_slide"
CHOICES = {"head": (*HEADS,), "calibration": ("none", *CALIBRATIONS), "protocol": (BY_SLIDE, "patch_random")}


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how. All of it is part of the model's identity.

    with_reviews: whether reviewers' verdicts replace labels; `models.table_versions` then names `reviews`.
    The others are columns of `models`. Raises ModelError when one is not a choice that there is.
    """

    patch_set: str
    encoder_id: str
    label_rule: str
    head: str = "logistic"
    calibration: str = "none"
    protocol: str = BY_SLIDE
    with_reviews: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ModelError(f"--{name} {getattr(self, name)}: must be one of {', '.join(choices)}")

    @property
    def columns(self) -> dict[str, str]:
        """The columns of a model's row that say how it was trained."""
        return {name: value for name, value in asdict(self).items() if name != "with_reviews"}

    @property
    def selection(self) -> dict[str, Any]:
        """The $params of sql/training_set.sql."""
        names = ("patch_set", "encoder_id", "label_rule", "protocol", "with_reviews")
        return {name: getattr(self, name) for name in names}

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables whose versions decide the training set."""
        return (*TABLES_READ, "reviews") if self.with_reviews else TABLES_READ


def recipe_of(model: Mapping[str, Any]) -> Recipe:
    """How a model was trained, by its row of `models`."""
    told = {name: model[name] for name in ("patch_set", "encoder_id", "label_rule", *CHOICES)}
    return Recipe(**told, with_reviews="reviews" in json.loads(model["table_versions"]))


@dataclass(frozen=True)
class Learned:
    """A fitted classifier. estimator: scikit-learn's, classes 0 and 1. model_id: hash of the recipe and of it.

    threshold: probability from which on a patch counts as tumor.
    """

    model_id: str
    estimator: Any
    threshold: float
    chosen: Chosen


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


def learn(data: Labelled, recipe: Recipe) -> Learned:
    """Choose the parameters of the recipe's head, fit it to the training split, calibrate it, choose its threshold.

    Writes nothing. The same data and recipe give the same classifier, bit for bit, whatever the number of threads:
    each sums fixed rows in one order, and so are their sums. Raises ModelError when there is nothing to calibrate on.
    """
    from joblib import hash as hash_of
    from threadpoolctl import threadpool_limits

    head = HEADS[recipe.head]
    held = data.is_validation
    if recipe.calibration in CALIBRATIONS and not has_both_classes(data.y[held]):
        raise ModelError(
            f"--calibration {recipe.calibration}: no tumor or no normal patch is labelled on validation slides; "
            "give slides of both kinds the split 'validation', or train with --calibration none"
        )
    with threadpool_limits(1, user_api="blas"):
        chosen = choose(head, data)
        estimator, probabilities = chosen.estimator, chosen.probabilities
        if recipe.calibration in CALIBRATIONS:
            estimator = calibrated(estimator, recipe.calibration, data, np.flatnonzero(held))
            probabilities = data.probability(estimator, np.flatnonzero(held))
    threshold = best_threshold(chosen.labels, probabilities)
    model_id = str(hash_of([asdict(recipe), estimator, threshold], hash_name="sha1"))[:12]
    return Learned(model_id, estimator, threshold, chosen)
