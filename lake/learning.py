"""Fits a patch classifier to embeddings and labels that are in memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lake.choices import CALIBRATIONS
from lake.decision import best_threshold, calibrated
from lake.heads import HEADS
from lake.recipe import Recipe
from lake.selection import Chosen, Labelled, choose, has_both_classes
from udfs.errors import ModelError


@dataclass(frozen=True)
class Learned:
    """A fitted classifier. estimator: scikit-learn's, classes 0 and 1. model_id: hash of the recipe and of it.

    threshold: probability from which on a patch counts as tumor.
    """

    model_id: str
    estimator: Any
    threshold: float
    chosen: Chosen


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
