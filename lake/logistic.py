"""Logistic regression on many long embeddings: scikit-learn's result, from a better direction.

What is minimised is what scikit-learn's LogisticRegression minimises on standardised embeddings with both classes
weighing alike, and SciPy's L-BFGS is what minimises it there too. Two things are done otherwise. Embeddings are not
copied to be standardised: coefficients are scaled instead. And L-BFGS works in coordinates in which the curvature at
the start is alike in all directions (a Cholesky factor of it, as in Newton's method), so that some ten steps do
where it takes hundreds otherwise: embeddings vary a lot in few directions and little in most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.row_blocks import blocks_of, each

Floats = NDArray[np.float64]

GRADIENT = 1e-5  # largest part of the gradient, in the coordinates of the steps, that counts as none
STEPS = 300  # at most
CURVATURE_ROWS = 8  # of each class, a dimension: enough to know the curvature by
CURVATURE_BLOCK = 2048
ROUNDING = 1e-5  # of float32 in sums of products; keeps the curvature positive


@dataclass(frozen=True)
class Problem:
    """Embeddings x (n, dims) float32 and classes y (n,), of which `rows`, ascending, are to be fitted; their scaler."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    rows: NDArray[np.int64]
    scaler: Any

    def solutions(self, strengths: Sequence[float]) -> Iterator[tuple[Floats, int]]:
        """Coefficients of standardised embeddings with the intercept at the end, and the steps taken: for each C.

        Each starts where the one before ended.
        """
        from scipy.linalg import cholesky, solve_triangular
        from scipy.optimize import minimize

        curvature = self._curvature()
        found = np.zeros(len(curvature))
        for strength in strengths:
            penalty = np.append(np.full(len(found) - 1, 1 / (strength * len(self.rows))), 0.0)
            factor = cholesky(curvature + np.diag(penalty), lower=True, overwrite_a=True, check_finite=False)

            def loss(place: Floats, factor: Floats = factor, penalty: Floats = penalty) -> tuple[float, Floats]:
                at = solve_triangular(factor, place, lower=True, trans="T", check_finite=False)
                value, gradient = self._loss(at)
                gradient += penalty * at
                return value + penalty @ at**2 / 2, solve_triangular(factor, gradient, lower=True, check_finite=False)

            options = {"maxiter": STEPS, "gtol": GRADIENT, "ftol": 0.0, "maxls": 50}
            result = minimize(loss, factor.T @ found, jac=True, method="L-BFGS-B", options=options)
            found = solve_triangular(factor, result.x, lower=True, trans="T", check_finite=False)
            yield found, int(result.nit)

    @cached_property
    def _blocks(self) -> list[slice]:
        return blocks_of(self.rows)

    @cached_property
    def _weights(self) -> Floats:
        """What a row of either class counts: both classes alike, and all rows as many as they are."""
        counts = np.bincount(self.y[self.rows], minlength=2)
        return np.asarray(len(self.rows) / (2 * counts), np.float64)

    def _loss(self, at: Floats) -> tuple[float, Floats]:
        """Mean log loss and its gradient, without the penalty."""
        from scipy.special import expit, log_expit

        slopes = at[:-1] / self.scaler.scale_
        raw = slopes.astype(np.float32)
        offset = at[-1] - self.scaler.mean_ @ raw.astype(np.float64)

        def part(block: slice) -> tuple[float, float, NDArray[np.float32]]:
            x, y = self.x[block], self.y[block]
            odds = (x @ raw).astype(np.float64) + offset
            weight = self._weights[y]
            residuals = weight * (expit(odds) - y)
            value = -weight @ log_expit(np.where(y == 1, odds, -odds))
            return float(value), float(residuals.sum()), residuals.astype(np.float32) @ x

        total, residual, gradient = 0.0, 0.0, np.zeros(len(slopes))
        for some, residuals, products in each(part, self._blocks):
            total += some
            residual += residuals
            gradient += products
        gradient = (gradient - self.scaler.mean_ * residual) / self.scaler.scale_
        return total / len(self.rows), np.append(gradient, residual) / len(self.rows)

    def _curvature(self) -> Floats:
        """Second derivatives of the mean log loss where all coefficients are 0, from some rows of each class."""
        dims = self.x.shape[1]
        mean, scale = self.scaler.mean_.astype(np.float32), self.scaler.scale_.astype(np.float32)

        def part(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            scaled = np.ones((len(rows), dims + 1), np.float32)
            np.divide(self.x[rows] - mean, scale, out=scaled[:, :-1])
            return scaled.T @ scaled

        found = np.zeros((dims + 1, dims + 1))
        for label in (0, 1):
            rows = self.rows[self.y[self.rows] == label]
            some = rows[:: max(1, len(rows) // (CURVATURE_ROWS * dims))]
            starts = range(0, len(some), CURVATURE_BLOCK)
            for products in each(part, [some[start : start + CURVATURE_BLOCK] for start in starts]):
                found += products / (8 * len(some))  # a quarter, at probability 0.5, of a class's half
        found[np.diag_indices_from(found)] += ROUNDING * found.diagonal().max()
        return found
