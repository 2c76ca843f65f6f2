"""Measures how well the probabilities of patches agree with their labels, with intervals by bootstrap over slides."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lake.bootstrap import Weights, interval, weights
from lake.sql_files import query

Values = dict[str, NDArray[np.float64]]
"""Of every metric's name its value in each draw of slides, NaN where the draw has no answer."""

DIGITS = 12  # that are kept, as in sql/metrics/patch.sql


def patch_metrics(con: duckdb.DuckDBPyConnection, model_id: str, patch_set: str) -> pl.DataFrame:
    """The numbers of sql/metrics/patch.sql: split, name, value, and low and high, the ends of their 95 % intervals."""
    selection = {"model_id": model_id, "patch_set": patch_set}
    values = con.execute(query("metrics/patch"), selection).pl()
    scored = con.execute(query("metrics/scored"), selection).pl()
    bounds = [
        (split, name, *interval(drawn))
        for (split,), rows in scored.group_by("split", maintain_order=True)
        for name, drawn in resampled(rows, weights(rows["slide_id"].n_unique())).items()
    ]
    schema = {"split": pl.String, "name": pl.String, "low": pl.Float64, "high": pl.Float64}
    ends = pl.DataFrame(bounds, schema, orient="row").with_columns(pl.col("low", "high").round(DIGITS))
    return values.join(ends, on=["split", "name"], how="left", maintain_order="left")


def resampled(scored: pl.DataFrame, drawn: Weights) -> Values:
    """The numbers of sql/metrics/patch.sql if every slide counted as often as it was drawn.

    scored: rows of sql/metrics/scored.sql of one split. drawn: shape (draws, slides), slides in the order of their ids.
    """
    slide = scored["slide_id"].rank("dense").to_numpy() - 1
    label = scored["label"].to_numpy()
    probability = scored["probability"].to_numpy()
    is_called = probability >= scored["threshold"].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without tumor, or without normal, has no answer
        return {
            **_rates(slide, label, is_called, drawn),
            **_ranked(slide, label, probability, drawn),
            **_calibrated(slide, label, probability, drawn),
        }


def _rates(slide: NDArray[np.int64], label: NDArray[np.int64], is_called: NDArray[np.bool_], drawn: Weights) -> Values:
    """The confusion of every draw and what follows from it: sums by slide, times how often each was drawn."""
    outcomes = np.bincount(slide * 4 + label * 2 + is_called, minlength=4 * drawn.shape[1]).reshape(-1, 4)
    tn, fp, fn, tp = (drawn @ outcomes).T.astype(np.float64)
    patches = tp + fp + tn + fn
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    return {
        "patches": patches,
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "accuracy": (tp + tn) / patches,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": 2 * tp / (2 * tp + fp + fn),
    }


def _ranked(
    slide: NDArray[np.int64], label: NDArray[np.int64], probability: NDArray[np.float64], drawn: Weights
) -> Values:
    """AUC and average precision of every draw, by counting down the thresholds; patches come highest first."""
    firsts = np.flatnonzero(np.diff(probability, prepend=2))  # of every threshold
    has_ties = len(firsts) < len(probability)
    tumor, normal = slide * 2 + label, slide * 2 + 1 - label  # where a draw's table has what the row counts for
    table = np.zeros((drawn.shape[1], 2))
    found, below, called = np.empty((3, len(firsts)))  # used again by every draw: new memory costs more than the sums
    both = np.empty((2, len(drawn)))
    for draw, times in enumerate(drawn):
        table[:, 1] = times
        positives, negatives = np.take(table, tumor), np.take(table, normal)
        if has_ties:
            positives, negatives = np.add.reduceat(positives, firsts), np.add.reduceat(negatives, firsts)
        np.cumsum(positives, out=found)
        np.cumsum(negatives, out=below)
        np.maximum(np.add(found, below, out=called), 1, out=called)
        pairs = _dot(negatives, found) - _dot(negatives, positives) / 2
        both[:, draw] = pairs / (found[-1] * below[-1]), _dot(positives, found / called) / found[-1]
    return {"auc": both[0], "average_precision": both[1]}


def _dot(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Their inner product without BLAS, whose threads wait for each other on a busy machine."""
    return np.float64(np.einsum("i,i->", left, right))


def _calibrated(
    slide: NDArray[np.int64], label: NDArray[np.int64], probability: NDArray[np.float64], drawn: Weights
) -> Values:
    """Brier score and expected calibration error of every draw: sums by slide, and by slide and tenth."""
    slides = drawn.shape[1]
    tenth = np.minimum(np.floor(probability * 10), 9).astype(np.int64)
    patches = drawn @ np.bincount(slide, minlength=slides)
    squares = drawn @ np.bincount(slide, (label - probability) ** 2, minlength=slides)
    gaps = drawn @ np.bincount(slide * 10 + tenth, label - probability, minlength=10 * slides).reshape(-1, 10)
    return {"brier": squares / patches, "ece": np.abs(gaps).sum(axis=1) / patches}
