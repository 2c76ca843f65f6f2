"""A trained classifier as SQL's predict wants it: embeddings in, probabilities of tumor out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.linear import Line, line_of


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
        odds = np.vecdot(embeddings, self._line.slopes).astype(np.float64)  # a row at a time: none depends on others
        if not np.isfinite(odds).all():
            raise ValueError("an embedding holds NaN or infinity; `histolake run` makes it anew")
        return np.asarray(expit(odds + self._line.intercept))

    @cached_property
    def _line(self) -> Line | None:
        return line_of(self.estimator)
