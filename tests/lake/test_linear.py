"""Lines of classifiers: scikit-learn's probabilities, scaling and calibration folded in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from lake.choices import CALIBRATIONS
from lake.decision import calibrated
from lake.heads import HEADS
from lake.linear import line_of
from lake.selection import TrainingSet


def overlapping(patches: int, dims: int, away: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Embeddings whose numbers lie so many of their spreads away from 0, and labels that a line tells badly."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((patches, dims)) + away * (1 + rng.random(dims))).astype(np.float32)
    return x, ((x - x.mean(axis=0))[:, :8].sum(axis=1) + 3 * rng.standard_normal(patches) > 1).astype(np.int64)


def held(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> TrainingSet:
    """Patches that are held out of the fit."""
    return TrainingSet(x, y, np.full(len(x), "validation"), np.full(len(x), True))


@pytest.mark.parametrize("calibration", ["none", *CALIBRATIONS])
def test_a_line_gives_scikit_learns_probabilities(calibration: str) -> None:
    x, y = overlapping(900, 60, away=2)
    estimator = HEADS["logistic"].fit(x, y, C=0.1)
    if calibration in CALIBRATIONS:
        estimator = calibrated(estimator, calibration, held(x, y), np.arange(0, len(x), 2))
    line = line_of(estimator)
    assert line is not None
    assert line.slopes.dtype == np.float32
    found = expit(x.astype(float) @ line.slopes.astype(float) + line.intercept)
    assert np.abs(found - estimator.predict_proba(x.astype(float))[:, 1]).max() < 1e-6


def test_other_classifiers_have_none() -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.naive_bayes import GaussianNB

    x, y = overlapping(200, 5, away=0)
    assert line_of(GaussianNB().fit(x, y)) is None
    assert line_of(calibrated(GaussianNB().fit(x, y), "platt", held(x, y), np.arange(len(x)))) is None
    assert (
        line_of(CalibratedClassifierCV(HEADS["logistic"].fit(x, y, C=0.1), cv=3).fit(x, y)) is None
    )  # a mean of three


@pytest.mark.parametrize(("away", "bits"), [(0, 32), (100, 64)])
def test_sums_take_64_bits_where_32_are_not_near_enough(away: float, bits: int) -> None:
    x, y = overlapping(900, 300, away)
    line = line_of(HEADS["logistic"].fit(x, y, C=0.1))
    assert line is not None
    assert line.sum_bits(x) == bits
