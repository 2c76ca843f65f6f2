"""Scored tiles as rectangles of output pixels, and the mean of their values over each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from udfs.errors import HistolakeError
from udfs.slide import Area

TILE_COLUMNS = ("x", "y", "span_x", "span_y")
EXACT = 9  # decimals of a mean: sums of floats end in noise, which could tip a color into its neighbour


@dataclass(frozen=True)
class Scale:
    """What colors tell: the tiles' column, its range, its name in the legend, and matplotlib's map from low to high."""

    column: str
    low: float
    high: float
    name: str
    colormap: str


PROBABILITY = Scale("probability", 0, 1, "tumor probability", "viridis")
"""Perceptually even, and readable with every common color blindness."""

DIFFERENCE = Scale("difference", -1, 1, "change of tumor probability", "RdBu_r")
"""Red where it grew, blue where it fell, and readable with every common color blindness."""


@dataclass(frozen=True)
class Rectangles:
    """Output pixels of tiles, [left, right) x [top, bottom), and the tiles' values; each of shape (n,)."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    value: NDArray[np.float64]

    def within(self, left: int, top: int, width: int, height: int) -> Rectangles:
        """What shows of them in a part of the picture, in that part's pixels."""
        right, bottom = left + width, top + height
        rows = (self.left < right) & (self.right > left) & (self.top < bottom) & (self.bottom > top)
        return Rectangles(
            np.clip(self.left[rows] - left, 0, width),
            np.clip(self.right[rows] - left, 0, width),
            np.clip(self.top[rows] - top, 0, height),
            np.clip(self.bottom[rows] - top, 0, height),
            self.value[rows],
        )


@dataclass(frozen=True)
class Cells:
    """A picture cut along all edges of its rectangles: every cell has one mean, over whole rows and columns of pixels.

    mean, is_covered: shape (rows, columns); heights, widths: of rows and columns, output pixels.
    """

    mean: NDArray[np.float64]
    is_covered: NDArray[np.bool_]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]


def scored(tiles: pl.DataFrame, scale: Scale) -> pl.DataFrame:
    """The tiles that have a value on the scale, as floats.

    Raises HistolakeError for tiles that lack a column or whose value is out of the scale.
    """
    columns = (*TILE_COLUMNS, scale.column)
    missing = [name for name in columns if name not in tiles.columns]
    if missing:
        raise HistolakeError(f"a heatmap needs tiles with {', '.join(missing)}; take them from predictions")
    known = tiles.select(pl.col(columns).cast(pl.Float64)).fill_nan(None).drop_nulls()
    wrong = known.filter(~pl.col(scale.column).is_between(scale.low, scale.high))
    if not wrong.is_empty():
        raise HistolakeError(
            f"{wrong[scale.column][0]:g} is no {scale.column}: {wrong.height} tiles lie outside "
            f"{scale.low:g} to {scale.high:g}; are they logits?"
        )
    return known


def rectangles(tiles: pl.DataFrame, scale: Scale, area: Area, width: int, height: int) -> Rectangles:
    """The output pixels of scored tiles in a picture of `area` (level-0 pixels), `width` x `height` px."""
    left, right = _edges(tiles["x"], tiles["span_x"], area.x, width / area.width, width)
    top, bottom = _edges(tiles["y"], tiles["span_y"], area.y, height / area.height, height)
    return Rectangles(left, right, top, bottom, tiles[scale.column].to_numpy())


def _edges(
    start: pl.Series, span: pl.Series, origin: float, zoom: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First output pixel of each tile along one axis, and the one after its last.

    Neighbours meet, as they round the same edge; a tile smaller than a pixel still gets one, where it is on view.
    """
    low = (start.to_numpy() - origin) * zoom
    high = (start.to_numpy() + span.to_numpy() - origin) * zoom
    first = np.rint(low).astype(np.int64)
    last = np.rint(high).astype(np.int64)
    is_thin = (last <= first) & (low < size) & (high > 0)
    first = np.where(is_thin, np.clip(np.floor(low), 0, size - 1), first).astype(np.int64)
    last = np.where(is_thin, first + 1, last)
    return np.clip(first, 0, size), np.clip(last, 0, size)


def mean_cells(found: Rectangles, width: int, height: int) -> Cells:
    """Mean value of the rectangles over each cell of a picture of `width` x `height` px, and where there is any.

    Each rectangle adds its value at its corners with alternating sign; summing along both axes then fills
    all of them at once, however many there are and however they overlap.
    """
    columns = np.unique(np.concatenate([found.left, found.right, [0, width]]))
    rows = np.unique(np.concatenate([found.top, found.bottom, [0, height]]))
    left, right = np.searchsorted(columns, found.left), np.searchsorted(columns, found.right)
    top, bottom = np.searchsorted(rows, found.top), np.searchsorted(rows, found.bottom)
    total = np.zeros((len(rows), len(columns)))
    count = np.zeros((len(rows), len(columns)), np.int64)
    for at_rows, at_columns, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(total, (at_rows, at_columns), sign * found.value)
        np.add.at(count, (at_rows, at_columns), sign)
    total = total.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    count = count.cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
    mean = np.round(total / np.maximum(count, 1), EXACT)
    return Cells(mean, count > 0, np.diff(rows), np.diff(columns))


def spread(values: NDArray[np.generic], cells: Cells) -> NDArray[np.generic]:
    """One value a cell, shape (rows, columns, …), as one a pixel, shape (height, width, …)."""
    return np.repeat(np.repeat(values, cells.widths, axis=1), cells.heights, axis=0)
