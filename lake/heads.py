"""The classifier heads that `histolake train` can fit on embeddings, each under its name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=C, max_iter=300, tol=1e-3, class_weight="balanced")
    fitted = make_pipeline(StandardScaler(), regression).fit(x, y)
    regression.intercept_ += np.log(y.mean() / (1 - y.mean()))
    return fitted


NETWORKS = 3
BATCH = 200
STEPS = 2400  # of the optimiser, and three passes over the patches where those take more


def mlp(x: NDArray[np.float32], y: NDArray[np.int64], *, alpha: float) -> Any:
    """StandardScaler and three small neural networks, whose log odds are averaged, as one MLPClassifier.

    Each has a hidden layer of 32 units, its own random start, and an L2 penalty alpha. Classes weigh alike and
    the intercept is moved afterwards, as in `logistic`.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    scaler, share, batch = StandardScaler().fit(x), y.mean(), min(BATCH, len(y))
    scaled, weights = scaler.transform(x), np.where(y == 1, 0.5 / share, 0.5 / (1 - share))
    passes = max(3, math.ceil(STEPS * batch / len(y)))
    how = {"alpha": alpha, "batch_size": batch, "max_iter": passes, "learning_rate_init": 3e-4}
    networks = [MLPClassifier((32,), random_state=seed, **how) for seed in range(NETWORKS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early, on purpose
        for network in networks:
            network.fit(scaled, y, sample_weight=weights)
    joined = _joined(networks)
    joined.intercepts_[1] += np.log(share / (1 - share))
    return Pipeline([("standardscaler", scaler), ("mlpclassifier", joined)])


def _joined(networks: Sequence[Any]) -> Any:
    """One network with the hidden units of all, whose log odds are the mean of theirs."""
    import numpy as np

    layers = [(each.coefs_, each.intercepts_) for each in networks]
    joined = networks[0]
    joined.coefs_ = [
        np.hstack([coefs[0] for coefs, _ in layers]),
        np.vstack([coefs[1] for coefs, _ in layers]) / len(networks),
    ]
    joined.intercepts_ = [
        np.concatenate([first for _, (first, _) in layers]),
        np.mean([b[1] for _, b in layers], axis=0),
    ]
    joined.hidden_layer_sizes = (len(joined.intercepts_[0]),)
    del joined._optimizer  # the state of a fit that is over; skops would ask whether to trust it
    return joined


HEADS: dict[str, Head] = {
    head.name: head
    for head in (
        Head(
            "logistic",
            "Standard scaling and logistic regression.",
            logistic,
            tuple({"C": strength} for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        ),
        Head(
            "mlp",
            "Standard scaling and small neural networks, averaged: more accurate with thousands of patches, slower.",
            mlp,
            tuple({"alpha": penalty} for penalty in (3.0, 1.0)),
        ),
    )
}
