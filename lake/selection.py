"""Chooses a head's parameters on slides that it was not fitted on. Test slides are never seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lake.classifier import Classifier
from lake.heads import Head, Parameters
from lake.linear import Line
from lake.row_blocks import blocks_of

FOLDS = 5
DIGITS = 4  # of an AUC: candidates that differ in later ones are equally good
ENOUGH_WORSE = 0.002  # below the best AUC: what is more flexible only fits more of the noise

Rows = NDArray[np.int64]
Fold = tuple[Rows, Rows]  # rows to fit on, rows held out


class Labelled(Protocol):
    """Labelled embeddings, in this process or in shards on others."""

    @property
    def y(self) -> NDArray[np.int64]:
        """Label of each row, 0 or 1."""

    @property
    def slides(self) -> NDArray[np.str_]:
        """Slide of each row."""

    @property
    def is_validation(self) -> NDArray[np.bool_]:
        """Whether a row is of the validation split; the others are for fitting."""

    @property
    def dims(self) -> int:
        """Length of an embedding."""

    @property
    def example(self) -> NDArray[np.float32]:
        """Some embeddings, two at most."""

    @property
    def shards(self) -> int:
        """How many there are; 1 in this process."""

    def probability(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """Of tumor, by a fitted classifier, in these rows, which ascend."""

    def log_odds(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """Of tumor, by a fitted classifier that has a decision_function, in these rows, which ascend."""

    def sum_bits(self, line: Line) -> int:
        """The bits that the line's sum needs on these embeddings; see `Line.sum_bits`."""

    def fits(self, head: Head, rows: Rows, held: Rows, candidates: Sequence[Parameters]) -> Iterator[Any]:
        """The head's classifiers for some of its candidates, in turn, fitted to `rows`, which ascend.

        held: rows that they will be compared on. What follows one that `is_over` says so of may be left out.
        """


@dataclass(frozen=True)
class TrainingSet:
    """Labelled embeddings in this process: x (n, dims) float32, y (n,) 0 or 1, the slide and the split of each row."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    slides: NDArray[np.str_]
    is_validation: NDArray[np.bool_]

    @property
    def dims(self) -> int:
        """See `Labelled`."""
        return int(self.x.shape[1])

    @property
    def example(self) -> NDArray[np.float32]:
        """See `Labelled`."""
        return self.x[:2]

    @property
    def shards(self) -> int:
        """See `Labelled`."""
        return 1

    def probability(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """See `Labelled`."""
        classifier = Classifier(estimator, self.dims)
        return np.concatenate([np.empty(0), *(classifier.probability(self.x[block]) for block in blocks_of(rows))])

    def log_odds(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """See `Labelled`."""
        parts = (estimator.decision_function(self.x[block]) for block in blocks_of(rows))
        return np.concatenate([np.empty(0), *parts])

    def sum_bits(self, line: Line) -> int:
        """See `Labelled`."""
        return line.sum_bits(self.x)

    def fits(self, head: Head, rows: Rows, held: Rows, candidates: Sequence[Parameters]) -> Iterator[Any]:
        """See `Labelled`."""
        return head.fits(self.x, self.y, rows, candidates)


def has_both_classes(y: NDArray[np.int64]) -> bool:
    """Whether tumor and normal are among these labels."""
    return len(np.unique(y)) == 2


@dataclass(frozen=True)
class Chosen:
    """The parameters of a head, and how they were found.

    estimator: the classifier fitted with them to all training slides. tried: the AUC of every candidate compared.
    labels, probabilities: of all rows held out, each scored by a classifier with these parameters that was not
    fitted on its slide; empty where none could be held out.
    """

    estimator: Any
    parameters: Parameters
    how: str
    tried: list[tuple[Parameters, float]]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def is_over(aucs: Sequence[float]) -> bool:
    """Whether candidates with these AUCs are enough: the last is clearly worse than the best, or none can be better."""
    return aucs[-1] < max(aucs) - ENOUGH_WORSE or round(max(aucs), DIGITS) == 1


def choose(head: Head, data: Labelled) -> Chosen:
    """The candidate with the best AUC on the validation split, or across training slides where that lacks a class.

    Candidates after those that `is_over` says are enough are not tried. Without two slides of each
    class to compare on, the middle candidate is taken.
    """
    folds, how = folds_of(data)
    training = np.flatnonzero(~data.is_validation)
    if not folds:
        middle = head.candidates[len(head.candidates) // 2]
        fitted = next(data.fits(head, training, np.empty(0, np.int64), [middle]))
        return Chosen(fitted, middle, "no slides to compare on: the default", [], np.empty(0, np.int64), np.empty(0))
    tried: list[tuple[Parameters, float]] = []
    scored: list[list[NDArray[np.float64]]] = []
    estimators: list[list[Any]] = []
    none = np.empty(0, np.int64)  # which candidates are enough is for all folds together to tell
    fits = [data.fits(head, rows, held if len(folds) == 1 else none, head.candidates) for rows, held in folds]
    for parameters, *fitted in zip(head.candidates, *fits, strict=False):
        estimators.append(fitted)
        scored.append([data.probability(each, held) for each, (_, held) in zip(fitted, folds, strict=True)])
        auc = float(np.mean([auc_of(data.y[held], each) for (_, held), each in zip(folds, scored[-1], strict=True)]))
        tried.append((parameters, auc))
        if is_over([value for _, value in tried]):
            break
    best = int(np.argmax([round(auc, DIGITS) for _, auc in tried]))
    parameters = tried[best][0]
    is_whole = len(folds) == 1 and len(folds[0][0]) == len(training)
    if is_whole:
        estimator = estimators[best][0]
    else:
        estimator = next(data.fits(head, training, np.empty(0, np.int64), [parameters]))
    labels = np.concatenate([data.y[held] for _, held in folds])
    return Chosen(estimator, parameters, how, tried, labels, np.concatenate(scored[best]))


def folds_of(data: Labelled) -> tuple[list[Fold], str]:
    """What is fitted and what is held out, and a name for it: the validation split, else folds of training slides."""
    training = np.flatnonzero(~data.is_validation)
    if has_both_classes(data.y[data.is_validation]):
        return [(training, np.flatnonzero(data.is_validation))], "validation split"
    return _slide_folds(data, training), "cross-validation over training slides"


def _slide_folds(data: Labelled, rows: Rows) -> list[Fold]:
    """Folds that keep each slide on one side and hold both classes on both."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(np.unique(data.slides[rows])))
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few slides of a class: the folds below tell
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        splits = list(splitter.split(rows, data.y[rows], data.slides[rows]))
    folds = [(rows[kept], rows[held]) for kept, held in splits]
    return [fold for fold in folds if all(has_both_classes(data.y[side]) for side in fold)]


def auc_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Area under the ROC curve; both classes must be there."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, probabilities))
