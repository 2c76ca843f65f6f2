"""A trained classifier as SQL's predict wants it: embeddings in, probabilities of tumor out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classifier:
    """A scikit-learn classifier with classes 0 and 1."""

    estimator: Any
    dims: int

    def probability(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of tumor, shape (n,), of embeddings of shape (n, dims).

        Of a logistic regression on standardised embeddings it is computed without a standardised copy: the same to
        0.000001 as by scikit-learn. Raises ValueError for embeddings that hold what is no number.
        """
        from scipy.special import expit

        if self._line is None:
            return np.asarray(self.estimator.predict_proba(embeddings)[:, 1], np.float64)
        slopes, offset = self._line
        odds = np.vecdot(embeddings, slopes).astype(np.float64) + offset  # a row at a time: no row depends on others
        if not np.isfinite(odds).all():
            raise ValueError("an embedding holds NaN or infinity; `histolake run` makes it anew")
        return np.asarray(expit(odds))

    @cached_property
    def _line(self) -> tuple[NDArray[np.float32], float] | None:
        """Slopes and offset of the log odds, where those are linear in the embedding."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import StandardScaler

        match self.estimator:
            case Pipeline(steps=[(_, StandardScaler() as scaler), (_, LogisticRegression() as regression)]):
                slopes = (regression.coef_[0] / scaler.scale_).astype(np.float32)
                return slopes, float(regression.intercept_[0] - scaler.mean_ @ slopes.astype(np.float64))
        return None
