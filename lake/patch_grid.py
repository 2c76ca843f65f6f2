"""Values of patches as a small picture, a byte a cell, that a browser colors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lake.heatmap_grid import PROBABILITY, Scale, mean_cells, rectangles, scored, spread
from udfs.slide import Area

LEVELS = 254  # steps of a probability; byte 0 is "no patch", bytes 1 to 255 are 0 to 1
CELLS_PER_SPAN = 4  # of patches that lie on no grid, so that each is drawn within an eighth of its size
MOST_CELLS = 2**22  # of one picture: what a browser colors in a few milliseconds

LABEL = Scale("label", 0, 1, "label", "viridis")
CALLED = Scale("called", 0, 1, "called tumor", "viridis")


@dataclass(frozen=True)
class Lattice:
    """Where the cells of a slide's grid are: left and top edge and size of a cell, level-0 pixels, and how many."""

    x: float
    y: float
    step_x: float
    step_y: float
    columns: int
    rows: int


@dataclass(frozen=True)
class PatchGrid:
    """Bytes over a part of a slide: where its cells are, and one for each, shape (rows, columns)."""

    where: Lattice
    cells: NDArray[np.uint8]


def lattice(tiles: pl.DataFrame, stride_x: float | None, stride_y: float | None) -> Lattice:
    """Choose the cells for patches x, y, span_x, span_y, of which there is at least one.

    stride_x, stride_y: step of the grid that they lie on, level-0 pixels: a cell of its own for each patch, however
    they overlap. None: they lie anywhere, and a cell is a quarter of a patch. Cells are made larger where there would
    be more than MOST_CELLS.
    """
    x, y = float(tiles["x"].cast(pl.Float64).min()), float(tiles["y"].cast(pl.Float64).min())  # type: ignore[arg-type]
    width = float((tiles["x"] + tiles["span_x"]).max()) - x  # type: ignore[arg-type]
    height = float((tiles["y"] + tiles["span_y"]).max()) - y  # type: ignore[arg-type]
    step_x = stride_x or float(tiles["span_x"][0]) / CELLS_PER_SPAN
    step_y = stride_y or float(tiles["span_y"][0]) / CELLS_PER_SPAN
    coarser = max(1.0, (width / step_x * height / step_y / MOST_CELLS) ** 0.5)
    step_x, step_y = step_x * coarser, step_y * coarser
    return Lattice(x, y, step_x, step_y, max(1, round(width / step_x)), max(1, round(height / step_y)))


def probability_grid(tiles: pl.DataFrame, where: Lattice) -> PatchGrid:
    """Bytes 1 to 255 for probabilities 0 to 1, the mean where patches overlap; 0 where there is no patch."""
    mean, is_covered = _means(tiles, PROBABILITY, where)
    values = np.where(is_covered, 1 + np.rint(mean.clip(0, 1) * LEVELS), 0)
    return PatchGrid(where, values.astype(np.uint8))


def outcome_grid(tiles: pl.DataFrame, where: Lattice) -> PatchGrid:
    """What a model makes of labelled patches, rows of sql/app/heatmap_outcomes.sql; of overlapping ones, most of them.

    1 true negative, 2 false positive, 3 false negative, 4 true positive, 0 where no label is.
    """
    label, is_labelled = _means(tiles, LABEL, where)
    called, _ = _means(tiles, CALLED, where)
    values = np.where(is_labelled, 1 + 2 * (label >= 0.5) + (called >= 0.5), 0)
    return PatchGrid(where, values.astype(np.uint8))


def _means(tiles: pl.DataFrame, scale: Scale, where: Lattice) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    area = Area(where.x, where.y, where.columns * where.step_x, where.rows * where.step_y)
    found = rectangles(scored(tiles, scale), scale, area, where.columns, where.rows)
    cells = mean_cells(found, where.columns, where.rows)
    return np.asarray(spread(cells.mean, cells), np.float64), np.asarray(spread(cells.is_covered, cells), np.bool_)
