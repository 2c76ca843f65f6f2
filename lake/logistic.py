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

import numpy as np

from lake.row_sums import Floats, Moments, Sums

GRADIENT = 1e-6  # largest part of the gradient, in the coordinates of the steps, that counts as none
STEPS = 300  # at most
CURVATURE_ROWS = 8  # of each class, a dimension: enough to know the curvature by
ROUNDING = 1e-5  # of float32 in sums of products; keeps the curvature positive


@dataclass(frozen=True)
class Problem:
    """The rows to be fitted, as sums over them; moments: those sums' own, by which embeddings are standardised."""

    sums: Sums
    moments: Moments

    @cached_property
    def scale(self) -> Floats:
        """What deviations from the mean are divided by."""
        return self.moments.scale

    def solutions(self, strengths: Sequence[float]) -> Iterator[tuple[Floats, int]]:
        """Coefficients of standardised embeddings with the intercept at the end, and the steps taken: for each C.

        Each starts where the one before ended.
        """
        from scipy.linalg import cholesky, solve_triangular
        from scipy.optimize import minimize

        curvature = self._curvature()
        found = np.zeros(len(curvature))
        for strength in strengths:
            penalty = np.append(np.full(len(found) - 1, 1 / (strength * self._count)), 0.0)
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

    @property
    def _count(self) -> int:
        return int(self.moments.counts.sum())

    @cached_property
    def _weights(self) -> Floats:
        """What a row of either class counts: both classes alike, and all rows as many as they are."""
        return np.asarray(self._count / (2 * self.moments.counts), np.float64)

    def _loss(self, at: Floats) -> tuple[float, Floats]:
        """Mean log loss and its gradient, without the penalty."""
        slopes = (at[:-1] / self.scale).astype(np.float32)
        offset = float(at[-1] - self.moments.mean @ slopes.astype(np.float64))
        total, residual, products = self.sums.loss(slopes, offset, self._weights)
        gradient = (products - self.moments.mean * residual) / self.scale
        return total / self._count, np.append(gradient, residual) / self._count

    def _curvature(self) -> Floats:
        """Second derivatives of the mean log loss where all coefficients are 0, from some rows of each class."""
        enough = CURVATURE_ROWS * len(self.scale)
        no, yes = (max(1, int(count) // enough) for count in self.moments.counts)
        mean, scale = self.moments.mean.astype(np.float32), self.scale.astype(np.float32)
        products = self.sums.products(mean, scale, (no, yes))
        found = np.zeros((len(scale) + 1, len(scale) + 1))
        for count, total in products:
            found += total / (8 * count)  # a quarter, at probability 0.5, of a class's half
        found[np.diag_indices_from(found)] += ROUNDING * found.diagonal().max()
        return found
