"""Nuclei of the synthetic slides: banks of small drawings, stamped where cells are.

A drawing is the amount of hematoxylin, 0 to about 1, shape (size, size), at level-0 resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
Points = NDArray[np.float64]  # shape (n, 2): x, y in level-0 pixels
Each = NDArray[np.floating]  # one value a drawing, shape (VARIANTS,)

VARIANTS = 96  # different drawings of one kind of nucleus
ANGLES = 16  # directions in which spindle-shaped nuclei are drawn


@dataclass(frozen=True)
class Kind:
    """What one kind of nucleus looks like; sizes in level-0 pixels."""

    radius: float
    spread: float  # relative standard deviation of the radius
    elongation: float  # long over short axis, largest
    irregularity: float  # of the outline, relative to the radius
    darkness: float  # hematoxylin of the body
    clumping: float  # contrast of the chromatin
    has_nucleolus: bool


LYMPHOCYTE = Kind(6.2, 0.09, 1.15, 0.03, 1.15, 0.18, False)
EPITHELIAL = Kind(7.6, 0.07, 1.3, 0.03, 0.85, 0.16, False)
FIBROBLAST = Kind(5.2, 0.15, 1.0, 0.05, 0.95, 0.12, False)
TUMOR = Kind(12.0, 0.20, 1.5, 0.08, 0.95, 0.25, True)


def draw_bank(rng: np.random.Generator, kind: Kind) -> Field:
    """Draw VARIANTS nuclei of a kind, turned at random; shape (VARIANTS, size, size)."""
    radius = np.clip(rng.normal(1, kind.spread, VARIANTS), 0.6, 1.6) * kind.radius
    elongation = rng.uniform(1, kind.elongation, VARIANTS)
    return _draw(rng, kind, radius, elongation, rng.uniform(0, np.pi, VARIANTS))


def draw_spindles(rng: np.random.Generator, kind: Kind) -> Field:
    """Draw spindle-shaped nuclei, VARIANTS / ANGLES for each direction in turn; shape as of draw_bank."""
    radius = np.clip(rng.normal(1, kind.spread, VARIANTS), 0.6, 1.6) * kind.radius
    angle = np.arange(VARIANTS) % ANGLES * (np.pi / ANGLES)
    return _draw(rng, kind, radius, rng.uniform(2.6, 5.0, VARIANTS), angle)


def _draw(rng: np.random.Generator, kind: Kind, radius: Each, elongation: Each, angle: Each) -> Field:
    half = int(np.ceil(np.max(radius * np.sqrt(elongation)) * (1 + 2 * kind.irregularity))) + 2
    v, u = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    stretch = np.sqrt(elongation)[:, None, None]
    along, across = (u * cos + v * sin) / stretch, (v * cos - u * sin) * stretch
    distance, theta = np.hypot(along, across), np.arctan2(across, along)
    outline = np.ones_like(distance)
    for harmonic in (2, 3, 4, 5):
        phase = rng.uniform(0, 2 * np.pi, (VARIANTS, 1, 1))
        outline += rng.normal(0, kind.irregularity / harmonic * 2, (VARIANTS, 1, 1)) * np.cos(harmonic * theta + phase)
    edge = distance - radius[:, None, None] * outline
    body = 1 / (1 + np.exp(np.clip(edge / 0.7, -30, 30)))
    membrane = np.exp(-(((edge + 1.5) / 1.3) ** 2))
    chromatin = ndimage.gaussian_filter(rng.normal(size=distance.shape), (0, 1.3, 1.3))
    chromatin /= chromatin.std()
    tone = 0.86 + 0.22 * membrane + kind.clumping * chromatin
    if kind.has_nucleolus:
        where = rng.uniform(-0.4, 0.4, (2, VARIANTS, 1, 1)) * radius[:, None, None]
        tone += 0.55 * np.exp(-((along - where[0]) ** 2 + (across - where[1]) ** 2) / 5.0)
    shade = rng.normal(1, 0.10, (VARIANTS, 1, 1)) * kind.darkness
    return np.asarray(body * np.clip(tone, 0.25, 1.6) * shade, np.float32)


def stamp(hematoxylin: Field, eosin: Field, bank: Field, points: Points, variants: NDArray[np.int64]) -> None:
    """Stamp drawing `variants[i]` of the bank with its centre at `points[i]`, in place.

    Where nuclei overlap the darker one wins, as in a section; inside a nucleus little eosin is left.
    """
    size = bank.shape[1]
    height, width = hematoxylin.shape
    corners = np.rint(points).astype(np.int64) - size // 2
    inside = ((corners >= 0) & (corners + size <= (width, height))).all(axis=1)
    cleared = 1 - 0.6 * np.minimum(bank, 1)
    for (x, y), variant in zip(corners[inside].tolist(), variants[inside].tolist(), strict=True):
        window = np.s_[y : y + size, x : x + size]
        np.maximum(hematoxylin[window], bank[variant], out=hematoxylin[window])
        eosin[window] *= cleared[variant]


def scatter(rng: np.random.Generator, density: Field, spacing: float, scale: float) -> Points:
    """Cell centres on a jittered grid `spacing` px apart, each kept with the chance `density` gives it.

    density: 0 to 1, shape (height, width) of a field whose pixels are `scale` level-0 pixels wide.
    Returns level-0 (x, y), shape (n, 2).
    """
    height, width = density.shape[0] * scale, density.shape[1] * scale
    rows, columns = int(height / spacing), int(width / spacing)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    x = (x + 0.5 + 0.5 * (y % 2) + rng.uniform(-0.33, 0.33, x.shape)) * spacing
    y = (y + 0.5 + rng.uniform(-0.33, 0.33, y.shape)) * spacing
    points = np.column_stack([np.clip(x.ravel(), 0, width - 1), np.clip(y.ravel(), 0, height - 1)])
    chance = sample(density, points, scale)
    return points[rng.random(len(points)) < chance]


def sample(field: Field, points: Points, scale: float) -> Field:
    """Look up the value of a field, whose pixels are `scale` level-0 pixels wide, at each level-0 point."""
    column, row = (points / scale).astype(np.int64).T
    return np.asarray(field[row, column], np.float32)
