"""The pictures that a training run leaves in MLflow: confusion matrix, ROC, calibration."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Scores = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
"""Labels (n,) and probabilities (n,) of each split."""


def figures(scores: Scores, threshold: float) -> dict[str, Figure]:
    """The plots by file name; splits with one class appear where that makes sense."""
    return {
        "confusion_matrix.png": _confusion(scores, threshold),
        "roc.png": _roc(scores),
        "calibration.png": _calibration(scores),
    }


def _confusion(scores: Scores, threshold: float) -> Figure:
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(4.5 * len(scores), 4), layout="constrained")
    for axes, (split, (labels, probabilities)) in zip(
        np.atleast_1d(figure.subplots(1, len(scores))), scores.items(), strict=True
    ):
        ConfusionMatrixDisplay.from_predictions(
            labels,
            probabilities >= threshold,
            labels=[0, 1],
            display_labels=["normal", "tumor"],
            ax=axes,
            cmap="cividis",
        )
        axes.set_title(f"{split}, threshold {threshold:.2g}")
    return figure


def _roc(scores: Scores) -> Figure:
    from sklearn.metrics import RocCurveDisplay

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for split, (labels, probabilities) in scores.items():
        if len(np.unique(labels)) == 2:
            RocCurveDisplay.from_predictions(labels, probabilities, name=split, ax=axes)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="patches")
    return figure


def _calibration(scores: Scores) -> Figure:
    from sklearn.calibration import calibration_curve

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    for split, (labels, probabilities) in scores.items():
        if len(np.unique(labels)) == 2:
            observed, predicted = calibration_curve(labels, probabilities, n_bins=10)
            axes.plot(predicted, observed, marker="o", label=split)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="predicted probability", ylabel="share of tumor", title="calibration, patches")
    axes.legend()
    return figure
