"""Classifiers whose log odds are linear in the embedding, as a line that SQL can compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 32, 64  # bits of the numbers that SQL sums
NEAR = 5e-6  # most that probabilities of patches of the training may differ by in 32 bits: half of what is promised
SAMPLE = 2048  # patches that this is measured on


@dataclass(frozen=True)
class Line:
    """The log odds of tumor: slopes (dims,) float32, each times its number of the embedding, summed, and intercept."""

    slopes: NDArray[np.float32]
    intercept: float

    @property
    def columns(self) -> dict[str, Any]:
        """Its columns of the table `models`."""
        return {"slopes": self.slopes.tolist(), "intercept": self.intercept}

    def sum_bits(self, embeddings: NDArray[np.float32]) -> int:
        """The bits that the sum needs on embeddings like these: 32 where one after another they are near enough."""
        from scipy.special import expit

        some = embeddings[:: max(1, len(embeddings) // SAMPLE)]
        short = np.cumsum(some * self.slopes, axis=1, dtype=np.float32)[:, -1].astype(np.float64)
        exact = some.astype(np.float64) @ self.slopes.astype(np.float64)
        away = np.abs(expit(short + self.intercept) - expit(exact + self.intercept)).max()
        return SHORT if away <= NEAR else LONG


def line_of(estimator: Any) -> Line | None:
    """The line of a logistic regression on standardised embeddings, calibrated or not; None of other classifiers.

    Scaling and calibration are folded in.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    match estimator:
        case CalibratedClassifierCV(calibrated_classifiers_=[calibrated]):
            factor, shift = calibration_of(calibrated)
            return _folded(calibrated.estimator, factor, shift)
        case FrozenEstimator(estimator=inner):
            return line_of(inner)
        case Pipeline(steps=[(_, StandardScaler() as scaler), (_, LogisticRegression() as regression)]):
            slopes = (regression.coef_[0] / scaler.scale_).astype(np.float32)
            return Line(slopes, float(regression.intercept_[0] - scaler.mean_ @ slopes.astype(np.float64)))
    return None


def calibration_of(calibrated: Any) -> tuple[float, float]:
    """Factor and shift that one of the classifiers in scikit-learn's CalibratedClassifierCV gives the log odds."""
    calibrator = calibrated.calibrators[0]
    if calibrated.method == "temperature":
        return 2 * float(calibrator.beta_), 0.0  # a softmax over (-beta * odds, beta * odds)
    return -float(calibrator.a_), -float(calibrator.b_)


def _folded(estimator: Any, factor: float, shift: float) -> Line | None:
    line = line_of(estimator)
    if line is None:
        return None
    return Line((line.slopes * factor).astype(np.float32), line.intercept * factor + shift)
