"""From probabilities to decisions: calibration on validation slides, and the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.choices import CALIBRATIONS

HALF = 0.5


def calibrated(estimator: Any, method: str, x: NDArray[np.float32], y: NDArray[np.int64]) -> Any:
    """The fitted classifier with its probabilities moved to what x (n, dims) and y (n,) show; ranks stay.

    method: 'platt' (a logistic regression on the classifier's scores; Platt, Probabilistic Outputs for Support
    Vector Machines, 1999) or 'temperature' (the scores divided by one number; Guo et al., On Calibration of
    Modern Neural Networks, 2017). Both classes must be in y.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    return CalibratedClassifierCV(FrozenEstimator(estimator), method=CALIBRATIONS[method]).fit(x, y)


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
