"""From probabilities to decisions: calibration on validation slides, and the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.choices import CALIBRATIONS
from lake.linear import calibration_of
from lake.network import Network
from lake.selection import Labelled, TrainingSet

HALF = 0.5


def calibrated(estimator: Any, method: str, data: Labelled, rows: NDArray[np.int64]) -> Any:
    """The fitted classifier with its probabilities moved to what these rows show, which ascend; ranks stay.

    method: 'platt' (a logistic regression on the classifier's scores; Platt, Probabilistic Outputs for Support
    Vector Machines, 1999) or 'temperature' (the scores divided by one number; Guo et al., On Calibration of
    Modern Neural Networks, 2017). Both classes must be in the rows.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    wanted, frozen = CALIBRATIONS[method], FrozenEstimator(estimator)
    if isinstance(data, TrainingSet) and not hasattr(estimator, "decision_function"):
        return CalibratedClassifierCV(frozen, method=wanted).fit(data.x[rows], data.y[rows])
    found = CalibratedClassifierCV(FrozenEstimator(_same()), method=wanted)
    found.fit(data.log_odds(estimator, rows)[:, None], data.y[rows])
    if isinstance(estimator, Network):
        return estimator.moved(*calibration_of(found.calibrated_classifiers_[0]))
    found.estimator = found.calibrated_classifiers_[0].estimator = frozen
    found.n_features_in_ = data.dims
    return found


def _same() -> Any:
    """A classifier whose scores are its one feature: calibrators are fitted to scores, wherever those come from."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression()
    regression.classes_, regression.n_features_in_ = np.array([0, 1]), 1
    regression.coef_, regression.intercept_ = np.array([[1.0]]), np.array([0.0])
    return regression


def best_threshold(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """The probability from which on a patch should count as tumor: the best balanced accuracy on these patches.

    Between two probabilities that occur, the middle is taken; of thresholds that are equally good, the one
    nearest to 0.5. One class alone says nothing: 0.5.
    """
    tumor, normal = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    if not len(tumor) or not len(normal):
        return HALF
    occurring = np.unique(probabilities)
    candidates = np.append((occurring[:-1] + occurring[1:]) / 2, HALF)
    missed, spared = np.searchsorted(tumor, candidates), np.searchsorted(normal, candidates)
    accuracy = (1 - missed / len(tumor) + spared / len(normal)) / 2
    best = candidates[accuracy >= accuracy.max() - 1e-12]  # sums of different fractions that are equal
    return float(best[np.argmin(np.abs(best - HALF))])
