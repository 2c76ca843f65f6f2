"""Sums over labelled embeddings, which is all that fitting a linear model asks of them: in one process or in many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lake.row_blocks import blocks_of, each

Floats = NDArray[np.float64]
Single = NDArray[np.float32]

PRODUCT_ROWS = 2048  # of one product of matrices


@dataclass(frozen=True)
class Moments:
    """Rows of class 0 and 1, and mean and variance of every dimension over all of them."""

    counts: NDArray[np.int64]
    mean: Floats
    variance: Floats

    @property
    def scale(self) -> Floats:
        """What deviations are divided by: the standard deviation; 1 where scikit-learn calls a dimension constant."""
        count, tiny = int(self.counts.sum()), np.finfo(np.float64).eps
        is_constant = self.variance <= count * tiny * self.variance + (count * self.mean * tiny) ** 2
        return np.where(is_constant, 1.0, np.sqrt(self.variance))


class Sums(Protocol):
    """What can be summed over the rows that are to be fitted."""

    def moments(self) -> Moments:
        """Count, mean and variance."""

    def loss(self, slopes: Single, offset: float, weights: Floats) -> tuple[float, float, Floats]:
        """Of log odds x @ slopes + offset: the log loss, the residuals, and the residuals times x, each summed.

        weights: what a row of class 0 and one of class 1 counts.
        """

    def products(self, mean: Single, scale: Single, every: tuple[int, int]) -> list[tuple[int, Floats]]:
        """Of each class the count and the summed outer products of some rows: of one in so many as `every` says.

        Rows are standardised by mean and scale, and end with a 1.
        """


@dataclass(frozen=True)
class RowSums:
    """Sums over `rows`, ascending, of embeddings x (n, dims) float32 and classes y (n,), in this process."""

    x: Single
    y: NDArray[np.int64]
    rows: NDArray[np.int64]

    @cached_property
    def _blocks(self) -> list[slice]:
        return blocks_of(self.rows)

    def moments(self) -> Moments:
        """Count, mean and variance, a block at a time: in one go the rows would be copied."""
        from sklearn.preprocessing import StandardScaler

        counts = np.bincount(self.y[self.rows], minlength=2)
        if not len(self.rows):
            return Moments(counts, np.zeros(self.x.shape[1]), np.zeros(self.x.shape[1]))
        scaler = StandardScaler()
        for block in self._blocks:
            scaler.partial_fit(self.x[block])
        return Moments(counts, scaler.mean_, scaler.var_)

    def loss(self, slopes: Single, offset: float, weights: Floats) -> tuple[float, float, Floats]:
        """See `Sums.loss`."""
        from scipy.special import expit, log_expit

        def part(block: slice) -> tuple[float, float, Single]:
            x, y = self.x[block], self.y[block]
            odds = (x @ slopes).astype(np.float64) + offset
            weight = weights[y]
            residuals = weight * (expit(odds) - y)
            value = -weight @ log_expit(np.where(y == 1, odds, -odds))
            return float(value), float(residuals.sum()), residuals.astype(np.float32) @ x

        total, residual, gradient = 0.0, 0.0, np.zeros(len(slopes))
        for some, residuals, products in each(part, self._blocks):
            total += some
            residual += residuals
            gradient += products
        return total, residual, gradient

    def products(self, mean: Single, scale: Single, every: tuple[int, int]) -> list[tuple[int, Floats]]:
        """See `Sums.products`."""
        dims = self.x.shape[1]

        def part(rows: NDArray[np.int64]) -> Single:
            scaled = np.ones((len(rows), dims + 1), np.float32)
            np.divide(self.x[rows] - mean, scale, out=scaled[:, :-1])
            return scaled.T @ scaled

        found = []
        for label, step in enumerate(every):
            some = self.rows[self.y[self.rows] == label][::step]
            total = np.zeros((dims + 1, dims + 1))
            for products in each(part, [some[at : at + PRODUCT_ROWS] for at in range(0, len(some), PRODUCT_ROWS)]):
                total += products
            found.append((len(some), total))
        return found


@dataclass(frozen=True)
class JoinedSums:
    """Sums over the rows of several shards, added in the shards' order.

    ask: has every shard's RowSums do what a method's name and arguments say; returns their answers, in order.
    """

    ask: Callable[..., Sequence[Any]]

    def moments(self) -> Moments:
        """Count, mean and variance (Chan et al., Updating Formulae and a Pairwise Algorithm, 1979)."""
        parts: Sequence[Moments] = self.ask("moments")
        if len(parts) == 1:
            return parts[0]
        rows = np.array([part.counts.sum() for part in parts], np.float64)
        counts = np.sum([part.counts for part in parts], axis=0)
        shares = rows / rows.sum()
        mean = np.sum([share * part.mean for share, part in zip(shares, parts, strict=True)], axis=0)
        spreads = [part.variance + (part.mean - mean) ** 2 for part in parts]
        return Moments(
            counts, mean, np.sum([share * spread for share, spread in zip(shares, spreads, strict=True)], axis=0)
        )

    def loss(self, slopes: Single, offset: float, weights: Floats) -> tuple[float, float, Floats]:
        """See `Sums.loss`."""
        totals, residuals, gradients = zip(*self.ask("loss", slopes, offset, weights), strict=True)
        return sum(totals), sum(residuals), np.sum(gradients, axis=0)

    def products(self, mean: Single, scale: Single, every: tuple[int, int]) -> list[tuple[int, Floats]]:
        """See `Sums.products`."""
        parts = self.ask("products", mean, scale, every)
        by_class = (zip(*of_class, strict=True) for of_class in zip(*parts, strict=True))
        return [(sum(counts), np.sum(matrices, axis=0)) for counts, matrices in by_class]
