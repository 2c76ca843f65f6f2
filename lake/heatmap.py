"""Tumor probability over a slide's picture: colored patches, legend, scale bar, and the banner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from lake.heatmap_frame import BANNER, Legend, frame_picture
from lake.heatmap_grid import PROBABILITY, Scale, mean_cells, rectangles, scored, spread
from udfs.errors import HistolakeError
from udfs.slide import Area, Pixels, dimensions, read_area

OPACITY = 0.55  # of a patch's color; the tissue shows through the rest
REDNESS = 0.6  # of a tinted patch whose probability is 1
LARGEST_ZOOM = 4  # output pixels a level-0 pixel


@dataclass(frozen=True)
class _View:
    """Which part of the slide is drawn, in level-0 pixels, and its size in output pixels."""

    area: Area
    width: int
    height: int


def render_heatmap(
    path: str,
    tiles: pl.DataFrame,
    *,
    title: str,
    mpp_x: float | None,
    mpp_y: float | None,
    region: Area | None = None,
    tint: bool = False,
    scale: Scale = PROBABILITY,
    long_edge_px: int = 1600,
) -> Image.Image:
    """Draw the slide, or a region of it, with every tile colored by its probability, or by what `scale` says.

    tiles: columns x, y, span_x, span_y (top-left corner and size, level-0 pixels) and the scale's;
    rows without a value are not drawn, where tiles overlap their mean is.
    mpp_x, mpp_y: level-0 microns per pixel; the picture's pixels are square in microns. Without
    them they are square in level-0 pixels, and there is no scale bar.
    long_edge_px: longer edge of the slide's picture, which is never enlarged more than 4 times.
    With `tint` each tile's own pixels are reddened instead, in proportion to its value.

    Returns RGB: title, picture, legend, and "Research use only. Not for diagnosis." below; its `info`
    holds title and banner, which `save_png` stores in the file.
    Raises SlideError when the slide cannot be read; HistolakeError for a region that is not on it,
    and for tiles that lack a column or whose value is out of the scale.
    """
    known = scored(tiles, scale)
    mpp = (mpp_x, mpp_y) if mpp_x and mpp_y else None
    view = _view(path, region, mpp, long_edge_px)
    picture = read_area(path, view.area, view.width, view.height)
    cells = mean_cells(rectangles(known, scale, view.area, view.width, view.height), view.width, view.height)
    mean, is_covered = spread(cells.mean, cells), spread(cells.is_covered, cells)
    overlay = _redden if tint else partial(_colorize, scale=scale)
    tissue = picture[is_covered]
    picture = picture.copy()  # what OpenSlide's image shares cannot be written to
    picture[is_covered] = overlay(tissue, mean[is_covered].clip(scale.low, scale.high))
    image = frame_picture(
        Image.fromarray(picture),
        title=title,
        legend=_legend(scale, overlay, tissue),
        microns_per_px=mpp[0] * view.area.width / view.width if mpp else None,
        message=None if len(tissue) else "no predictions here",
    )
    image.info.update({"Title": title, "Disclaimer": BANNER})
    return image


def save_png(image: Image.Image, path: Path) -> None:
    """Write a heatmap as PNG, its title and banner as text chunks of the file."""
    text = PngImagePlugin.PngInfo()
    for keyword, value in image.info.items():
        text.add_itxt(str(keyword), str(value))
    image.save(path, "PNG", pnginfo=text)


def probability_colors(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colors of probabilities, 0 to 1, shape (n,); RGB, shape (n, 3)."""
    return _colors(PROBABILITY, probabilities)


def _colors(scale: Scale, values: NDArray[np.floating]) -> NDArray[np.uint8]:
    import matplotlib  # half a second: only when something is drawn

    share = (np.asarray(values, np.float64) - scale.low) / (scale.high - scale.low)
    return np.asarray(matplotlib.colormaps[scale.colormap](share, bytes=True), np.uint8)[..., :3]


def _view(path: str, region: Area | None, mpp: tuple[float, float] | None, long_edge_px: int) -> _View:
    slide_width, slide_height = dimensions(path)
    area = region or Area(0, 0, slide_width, slide_height)
    is_off_slide = area.x >= slide_width or area.y >= slide_height or area.x + area.width <= 0
    if area.width <= 0 or area.height <= 0 or is_off_slide or area.y + area.height <= 0:
        raise HistolakeError(
            f"{path}: the region {area.x:g},{area.y:g},{area.width:g},{area.height:g} shows nothing of the slide; "
            f"give X,Y,W,H within its {slide_width} x {slide_height} level-0 pixels"
        )
    mpp_x, mpp_y = mpp or (1.0, 1.0)
    zoom = long_edge_px / max(area.width * mpp_x, area.height * mpp_y)  # output pixels a micron
    zoom = min(zoom, LARGEST_ZOOM / mpp_x, LARGEST_ZOOM / mpp_y)
    return _View(area, max(1, round(area.width * mpp_x * zoom)), max(1, round(area.height * mpp_y * zoom)))


def _colorize(pixels: Pixels, values: NDArray[np.float64], *, scale: Scale) -> Pixels:
    """Lay the map's colors over the tissue in gray: its own hue would shift them away from the legend's."""
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    mixed = OPACITY * _colors(scale, values) + (1 - OPACITY) * gray[:, None]
    return np.asarray(np.rint(mixed), np.uint8)


def _redden(pixels: Pixels, probabilities: NDArray[np.float64]) -> Pixels:
    """Mix each pixel with red, in proportion to its tile's probability."""
    weight = REDNESS * probabilities[:, None]
    mixed = (1 - weight) * pixels + weight * np.array([255.0, 0.0, 0.0])
    return np.asarray(np.rint(mixed), np.uint8)


def _legend(scale: Scale, overlay: Callable[[Pixels, NDArray[np.float64]], Pixels], tissue: Pixels) -> Legend:
    """Show the colors as they look on this slide: over the mean color of the tissue that they cover."""
    mean = tissue.mean(axis=0) if len(tissue) else np.full(3, 235.0)
    backdrop = np.tile(np.rint(mean).astype(np.uint8), (256, 1))
    colors = overlay(backdrop, np.linspace(scale.low, scale.high, 256))
    return Legend(scale.name, colors, scale.low, scale.high)
