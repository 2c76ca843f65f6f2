"""Intervals of metrics by bootstrap over slides: patches of one slide are alike, so slides are what is drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
CONFIDENCE = 0.95

Weights = NDArray[np.int64]
"""How often each slide was drawn, shape (draws, slides)."""


def weights(slides: int, draws: int = DRAWS, seed: int = 0) -> Weights:
    """Draw as many of `slides` slides as there are, with replacement, `draws` times; the same for the same seed.

    Of fewer than two slides there are no draws: they would all be alike, and an interval without width a lie.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, cluster bootstrap.
    """
    if slides < 2:
        return np.empty((0, slides), np.int64)
    return np.random.default_rng(seed).multinomial(slides, np.full(slides, 1 / slides), size=draws)


def interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The percentile interval of a metric's values, shape (draws,); NaN where a draw had no answer.

    None where fewer than half of the draws have an answer, as with one slide of a kind, or there are none.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0 or 2 * len(known) < len(values):
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
