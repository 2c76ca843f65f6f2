"""Chooses a head's parameters on slides that it was not fitted on. Test slides are never seen."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.classifier import Classifier
from lake.heads import Head, Parameters
from lake.row_blocks import blocks_of

FOLDS = 5
ENOUGH_WORSE = 0.002  # below the best AUC: what is more flexible only fits more of the noise

Rows = NDArray[np.int64]
Fold = tuple[Rows, Rows]  # rows to fit on, rows held out


@dataclass(frozen=True)
class TrainingSet:
    """Labelled embeddings: x (n, dims) float32, y (n,) 0 or 1, the slide and the split of each row."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    slides: NDArray[np.str_]
    is_validation: NDArray[np.bool_]

    def has_both_classes(self, rows: Rows | NDArray[np.bool_]) -> bool:
        """Whether tumor and normal are among these rows."""
        return len(np.unique(self.y[rows])) == 2

    def probability(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """Of tumor, by a fitted classifier, in these rows, which ascend."""
        classifier = Classifier(estimator, self.x.shape[1])
        return np.concatenate([classifier.probability(self.x[block]) for block in blocks_of(rows)])


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


def choose(head: Head, data: TrainingSet) -> Chosen:
    """The candidate with the best AUC on the validation split, or across training slides where that lacks a class.

    Candidates after one that is clearly worse than the best are not tried. Without two slides of each
    class to compare on, the middle candidate is taken.
    """
    folds, how = folds_of(data)
    training = np.flatnonzero(~data.is_validation)
    if not folds:
        middle = head.candidates[len(head.candidates) // 2]
        fitted = next(head.fits(data.x, data.y, training, [middle]))
        return Chosen(fitted, middle, "no slides to compare on: the default", [], np.empty(0, np.int64), np.empty(0))
    tried: list[tuple[Parameters, float]] = []
    scored: list[list[NDArray[np.float64]]] = []
    estimators: list[list[Any]] = []
    fits = [head.fits(data.x, data.y, rows, head.candidates) for rows, _ in folds]
    for parameters, *fitted in zip(head.candidates, *fits, strict=True):
        estimators.append(fitted)
        scored.append([data.probability(each, held) for each, (_, held) in zip(fitted, folds, strict=True)])
        auc = float(np.mean([_auc(data.y[held], each) for (_, held), each in zip(folds, scored[-1], strict=True)]))
        tried.append((parameters, auc))
        if auc < max(value for _, value in tried) - ENOUGH_WORSE:
            break
    best = int(np.argmax([round(auc, 4) for _, auc in tried]))
    parameters = tried[best][0]
    is_whole = len(folds) == 1 and len(folds[0][0]) == len(training)
    estimator = estimators[best][0] if is_whole else next(head.fits(data.x, data.y, training, [parameters]))
    labels = np.concatenate([data.y[held] for _, held in folds])
    return Chosen(estimator, parameters, how, tried, labels, np.concatenate(scored[best]))


def folds_of(data: TrainingSet) -> tuple[list[Fold], str]:
    """What is fitted and what is held out, and a name for it: the validation split, else folds of training slides."""
    training = np.flatnonzero(~data.is_validation)
    if data.has_both_classes(data.is_validation):
        return [(training, np.flatnonzero(data.is_validation))], "validation split"
    return _slide_folds(data, training), "cross-validation over training slides"


def _slide_folds(data: TrainingSet, rows: Rows) -> list[Fold]:
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
    return [fold for fold in folds if all(data.has_both_classes(side) for side in fold)]


def _auc(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, probabilities))
