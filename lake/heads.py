"""The classifier heads that `histolake train` can fit on embeddings, each under its name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake import deep
from lake.logistic import Problem
from lake.row_blocks import blocks_of
from lake.row_sums import Moments, RowSums, Sums

Parameters = Mapping[str, Any]
Embeddings = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Head:
    """A kind of classifier, of scikit-learn's own types only or a `Network`: models are stored without pickle.

    about: one sentence. fits(x, y, rows, candidates): the classifiers, with classes 0 and 1, fitted with each of
    the parameters in turn to some rows, given in ascending order, of x (n, dims) float32 and y (n,); the same input
    gives the same classifiers, bit for bit. candidates: the parameters that are compared on held-out slides, the
    least flexible first; see `lake.selection.choose`. over: the same from sums over rows, wherever those are; None
    where sums are not enough.
    """

    name: str
    about: str
    fits: Callable[[Embeddings, Labels, Labels, Sequence[Parameters]], Iterator[Any]]
    candidates: tuple[Parameters, ...]
    over: Callable[[Sums, Sequence[Parameters]], Iterator[Any]] | None = None

    def fit(self, x: Embeddings, y: Labels, **parameters: Any) -> Any:
        """The classifier fitted to all rows with these parameters."""
        return next(self.fits(x, y, np.arange(len(y)), [parameters]))


def logistic(x: Embeddings, y: Labels, rows: Labels, candidates: Sequence[Parameters]) -> Iterator[Any]:
    """`logistic_over` the sums of rows that this process holds."""
    return logistic_over(RowSums(x, y, rows), candidates)


def logistic_over(sums: Sums, candidates: Sequence[Parameters]) -> Iterator[Any]:
    """StandardScaler and LogisticRegression, for each inverse strength C.

    Both classes weigh alike in the fit, because a few tumor patches among many normal ones rank better so;
    the intercept is then moved to the classes' real shares, so that probabilities stay probabilities
    (King and Zeng, Logistic Regression in Rare Events Data, 2001, prior correction).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    moments = sums.moments()
    scaler, share = scaler_of(moments), moments.counts[1] / moments.counts.sum()
    strengths = [parameters["C"] for parameters in candidates]
    solutions = Problem(sums, moments).solutions(strengths)
    for strength, (found, steps) in zip(strengths, solutions, strict=True):
        regression = LogisticRegression(C=strength, class_weight="balanced")
        regression.classes_, regression.n_features_in_ = np.array([0, 1]), len(found) - 1
        regression.coef_ = found[None, :-1].astype(np.float32)
        regression.intercept_ = (found[-1:] + np.log(share / (1 - share))).astype(np.float32)
        regression.n_iter_ = np.array([steps], np.int32)
        yield Pipeline([("standardscaler", scaler), ("logisticregression", regression)])


def scaler_of(moments: Moments) -> Any:
    """StandardScaler as if it were fitted to the rows that the moments are of."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    scaler.mean_, scaler.var_, scaler.scale_ = moments.mean, moments.variance, moments.scale
    scaler.n_features_in_, scaler.n_samples_seen_ = len(moments.mean), np.int64(moments.counts.sum())
    return scaler


NETWORKS = 3
BATCH = 200
STEPS = 2400  # of the optimiser, and three passes over the patches where those take more


def _scaled(x: Embeddings, rows: Labels, scaler: Any) -> Embeddings:
    """Rows of x, scaled: one copy, made a block at a time."""
    out, start = np.empty((len(rows), x.shape[1]), x.dtype), 0
    for block in blocks_of(rows):
        end = start + block.stop - block.start
        out[start:end] = scaler.transform(x[block])
        start = end
    return out


def mlp(x: Embeddings, y: Labels, rows: Labels, candidates: Sequence[Parameters]) -> Iterator[Any]:
    """StandardScaler and three small neural networks, whose log odds are averaged, as one MLPClassifier.

    Each has a hidden layer of 32 units, its own random start, and an L2 penalty alpha. Classes weigh alike and
    the intercept is moved afterwards, as in `logistic`.
    """
    from sklearn.pipeline import Pipeline

    scaler, known = scaler_of(RowSums(x, y, rows).moments()), y[rows]
    share = known.mean()
    for parameters in candidates:
        joined = _joined(_networks(_scaled(x, rows, scaler), known, **parameters))
        joined.intercepts_[1] += np.log(share / (1 - share))
        yield Pipeline([("standardscaler", scaler), ("mlpclassifier", joined)])


def _networks(scaled: Embeddings, y: Labels, *, alpha: float) -> list[Any]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    share, batch = y.mean(), min(BATCH, len(y))
    weights = np.where(y == 1, 0.5 / share, 0.5 / (1 - share))
    passes = max(3, math.ceil(STEPS * batch / len(y)))
    how = {"alpha": alpha, "batch_size": batch, "max_iter": passes, "learning_rate_init": 3e-4}
    networks = [MLPClassifier((32,), random_state=seed, **how) for seed in range(NETWORKS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early, on purpose
        for network in networks:
            network.fit(scaled, y, sample_weight=weights)
    return networks


def _joined(networks: Sequence[Any]) -> Any:
    """One network with the hidden units of all, whose log odds are the mean of theirs."""
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
            logistic_over,
        ),
        Head(
            "mlp",
            "Standard scaling and small neural networks, averaged: more accurate with thousands of patches, slower.",
            mlp,
            tuple({"alpha": penalty} for penalty in (3.0, 1.0)),
        ),
        Head(
            "deep",
            "A deeper neural network, by PyTorch (extra `deep`); on Ray too, over more patches than one machine holds.",
            deep.deep,
            deep.CANDIDATES,
        ),
    )
}
