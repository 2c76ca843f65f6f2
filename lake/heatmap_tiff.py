"""Heatmaps as pyramidal TIFFs of the slide's own size and resolution, to lay over it in any viewer."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from lake.heatmap import probability_colors
from lake.heatmap_grid import PROBABILITY, Rectangles, mean_cells, rectangles, scored, spread
from lake.pyramid import Level, write_levels
from udfs.slide import Area

TILE_PX = 512
BLANK = 255  # what no tile covers is white: the color map has no such color
FAST = 1  # zlib's level: rectangles of one color compress well at any
BLANK_TILE = zlib.compress(bytes([BLANK]) * (TILE_PX * TILE_PX * 3))


def write_heatmap_tiff(
    path: Path, tiles: pl.DataFrame, *, width: int, height: int, mpp: tuple[float, float] | None, description: str
) -> None:
    """Write the tiles' probabilities in colors, as a TIFF of a slide's `width` x `height` level-0 pixels.

    tiles: columns x, y, span_x, span_y (level-0 pixels) and probability (0 to 1); where they overlap their
    mean is shown, what none covers is white. Every level is painted from the tiles themselves, so that all
    colors are the map's. One row of TIFF tiles at a time is in memory. mpp, description: see `write_levels`.
    Raises HistolakeError for tiles that lack a column or whose probability is no probability.
    """
    known = scored(tiles, PROBABILITY)
    text = description.encode("ascii", "backslashreplace").decode()
    levels = _levels(known, width, height)
    is_big = width * height * 3 >= 2**32  # before compression: on the safe side
    write_levels(path, levels, tile_px=TILE_PX, photometric="rgb", mpp=mpp, description=text, is_big=is_big)


def _levels(tiles: pl.DataFrame, width: int, height: int) -> Iterator[Level]:
    slide = Area(0, 0, width, height)
    while True:
        yield Level(width, height, _encoded_tiles(rectangles(tiles, PROBABILITY, slide, width, height), width, height))
        if max(width, height) <= TILE_PX:
            return
        width, height = (width + 1) // 2, (height + 1) // 2


def _encoded_tiles(painted: Rectangles, width: int, height: int) -> Iterator[bytes]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib, most of the work, runs beside Python
        for top in range(0, height, TILE_PX):
            row = painted.within(0, top, width, TILE_PX)
            yield from pool.map(partial(_encoded_tile, row), range(0, width, TILE_PX))


def _encoded_tile(row: Rectangles, left: int) -> bytes:
    found = row.within(left, 0, TILE_PX, TILE_PX)
    if not len(found.value):
        return BLANK_TILE
    cells = mean_cells(found, TILE_PX, TILE_PX)
    colors = np.full((*cells.mean.shape, 3), BLANK, np.uint8)
    colors[cells.is_covered] = probability_colors(cells.mean[cells.is_covered])
    return zlib.compress(spread(colors, cells).tobytes(), FAST)
