"""The classifier heads that `histolake train` can fit on embeddings, each under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """A kind of classifier, made of scikit-learn's own types only: models are stored without pickle.

    about: one sentence. fit(x, y, **parameters): the fitted classifier with classes 0 and 1, of x (n, dims)
    float32 and y (n,); the same input gives the same classifier, bit for bit. candidates: the parameters that
    are compared on held-out slides, the least flexible first; see `lake.selection.choose`.
    """

    name: str
    about: str
    fit: Callable[..., Any]
    candidates: tuple[Parameters, ...]


def logistic(x: NDArray[np.float32], y: NDArray[np.int64], *, C: float) -> Any:
    """StandardScaler and LogisticRegression with inverse strength C.

    Both classes weigh alike in the fit, because a few tumor patches among many normal ones rank better so;
    the intercept is then moved to the classes' real shares, so that probabilities stay probabilities
    (King and Zeng, Logistic Regression in Rare Events Data, 2001, prior correction).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=C, max_iter=300, tol=1e-3, class_weight="balanced")
    fitted = make_pipeline(StandardScaler(), regression).fit(x, y)
    regression.intercept_ += np.log(y.mean() / (1 - y.mean()))
    return fitted


HEADS: dict[str, Head] = {
    head.name: head
    for head in (
        Head(
            "logistic",
            "Standard scaling and logistic regression.",
            logistic,
            tuple({"C": strength} for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        ),
    )
}
