"""Opens and reads slides in this process, by OpenSlide: properties, exact resampling, recovery from bad tiles.

Only `udfs/slide_reader.py` calls it, one request at a time: a file may crash or hang the libraries that decode it.
Coordinates are level-0 pixels, (x, y) from the top-left corner; sizes are (width, height).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from udfs.areas import Area, Cut, FileState, Pixels
from udfs.errors import SlideError
from udfs.jpeg_tiles import JpegTiles, MissingTilesError, TileCache
from udfs.reasons import reason

BLOCK_EDGE = 4096  # px of a level, most decoded at once along each axis when a large area is reduced
MOST_REDUCTION = 256  # px of a level that the filter makes into one, along each axis; the rest is averaged after it

PROPERTIES = {  # of a slide, as OpenSlide calls them, that anybody asks for
    *(openslide.PROPERTY_NAME_VENDOR, "openslide.level-count", openslide.PROPERTY_NAME_OBJECTIVE_POWER),
    *(openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y),
    *(openslide.PROPERTY_NAME_BOUNDS_X, openslide.PROPERTY_NAME_BOUNDS_Y),
    *(openslide.PROPERTY_NAME_BOUNDS_WIDTH, openslide.PROPERTY_NAME_BOUNDS_HEIGHT),
}

_READ_ERRORS = (openslide.OpenSlideError, OSError, ValueError, MemoryError)

blocks_begun: NDArray[np.int64] = np.zeros(1, np.int64)
"""Blocks of levels that this process has begun to read; whoever waits for an area sees by it that it goes on."""


@dataclass(frozen=True)
class _Slide:
    """An open slide and the shape of its levels, which a poisoned handle would no longer tell."""

    path: str  # or address, as it was asked for
    file: str
    cache: TileCache
    handle: openslide.OpenSlide
    vendor: str
    sizes: tuple[tuple[int, int], ...]  # width and height of each level
    downsamples: tuple[float, ...]  # of each level, as OpenSlide places pixels by: the mean of both axes

    @cached_property
    def tiles(self) -> JpegTiles:
        """What can be read of the slide without OpenSlide."""
        return JpegTiles(self.file, self.vendor, self.sizes, self.cache)

    def steps(self, level: int) -> tuple[float, float]:
        """Level-0 px that one px of the level is wide and high: not whole, and not the same, in general."""
        (full_width, full_height), (width, height) = self.sizes[0], self.sizes[level]
        return full_width / width, full_height / height

    def best_level(self, scale_x: float, scale_y: float) -> int:
        """The coarsest level whose pixels are no larger than (scale_x, scale_y) level-0 px, else level 0."""
        steps = enumerate(map(self.steps, range(len(self.sizes))))
        fine = [level for level, (x, y) in steps if x <= scale_x * 1.001 and y <= scale_y * 1.001]
        return max(fine, default=0)


class Slides:
    """The open slides of this process. One unreadable tile makes every later read of a handle fail: it is dropped."""

    def __init__(self, cache_bytes: int) -> None:
        """cache_bytes: decoded tiles of all slides that OpenSlide keeps, and as many that are read without it."""
        self._open: dict[FileState, _Slide] = {}
        self._openslides = openslide.OpenSlideCache(cache_bytes)
        self._tiles = TileCache(cache_bytes)

    def close(self, states: Iterable[FileState]) -> None:
        """Close slides; those that are not open are none."""
        for state in states:
            self._open.pop(state, None)

    def dimensions(self, path: str, state: FileState) -> tuple[int, int]:
        """Width and height, level-0 px. path: what errors call the slide; state: its file. Raises SlideError."""
        return self._get(path, state).sizes[0]

    def metadata(self, path: str, state: FileState) -> dict[str, str]:
        """As `udfs.slide.metadata`. Others that a file has, names and dates perhaps, stay in this process."""
        for level in range(len(self._get(path, state).sizes)):
            self._probe(path, state, level)
        slide = self._get(path, state)
        width, height = slide.sizes[0]
        try:
            slide.tiles  # noqa: B018 (which looks whether they are all there)
            properties = {name: value for name, value in slide.handle.properties.items() if name in PROPERTIES}
        except _READ_ERRORS as error:
            raise SlideError(
                f"{path}: the slide opens but cannot be read ({_why(error)}); copy or convert it again"
            ) from None
        return {**properties, "width": str(width), "height": str(height)}

    def _probe(self, path: str, state: FileState, level: int) -> None:
        failure = ""
        for place in (0, 0.5, 1):
            slide = self._get(path, state)
            x, y = (int(place * (edge - 1)) for edge in slide.sizes[0])
            try:
                slide.handle.read_region((x, y), level, (1, 1))
                return
            except _READ_ERRORS as error:
                self.close([state])
                failure = _why(error)
        raise SlideError(f"{path}: the slide opens but cannot be read ({failure}); copy or convert it again")

    def read(self, path: str, state: FileState, cut: Cut) -> Pixels:
        """RGB, shape (height, width, 3), as `udfs.slide.read_area`."""
        slide = self._get(path, state)
        try:
            return _resample(slide, cut.area, cut.width, cut.height)
        except _READ_ERRORS as error:
            self.close([state])
            raise SlideError(f"{path}: cannot read {cut} ({_why(error)}); copy or convert the slide again") from None

    def _get(self, path: str, state: FileState) -> _Slide:
        slide = self._open.get(state)
        if slide is None:
            slide = self._open[state] = self._opened(path, state[0])
        return slide

    def _opened(self, path: str, file: str) -> _Slide:
        try:
            handle = openslide.OpenSlide(file)
            handle.set_cache(self._openslides)
            vendor = handle.properties[openslide.PROPERTY_NAME_VENDOR]
            return _Slide(path, file, self._tiles, handle, vendor, handle.level_dimensions, handle.level_downsamples)
        except openslide.OpenSlideUnsupportedFormatError:
            raise SlideError(f"{path}: OpenSlide does not know this format; is it a whole-slide image?") from None
        except _READ_ERRORS as error:
            raise SlideError(f"{path}: the slide cannot be opened ({_why(error)}); copy or convert it again") from None


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, MissingTilesError) else reason(error)


def _resample(slide: _Slide, area: Area, width: int, height: int) -> Pixels:
    """Read `area` in blocks, so that memory is bounded however large it is."""
    scale_x, scale_y = area.width / width, area.height / height
    level = slide.best_level(scale_x, scale_y)
    step_x, step_y = slide.steps(level)
    factor = math.ceil(max(scale_x / step_x, scale_y / step_y) / MOST_REDUCTION)
    if factor > 1:
        finer = _resample(slide, area, width * factor, height * factor)
        return np.asarray(Image.fromarray(finer).reduce(factor))
    columns = max(1, int(BLOCK_EDGE * step_x / scale_x))  # of the result, in one block
    rows = max(1, int(BLOCK_EDGE * step_y / scale_y))
    if columns >= width and rows >= height:
        return _resample_block(slide, level, area, width, height)
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            across, down = min(columns, width - left), min(rows, height - top)
            part = Area(area.x + left * scale_x, area.y + top * scale_y, across * scale_x, down * scale_y)
            out[top : top + down, left : left + across] = _resample_block(slide, level, part, across, down)
    return out


def _resample_block(slide: _Slide, level: int, area: Area, width: int, height: int) -> Pixels:
    """Read a block of a level, with a margin for the filter, and resample the exact window in it."""
    (step_x, step_y), (level_width, level_height) = slide.steps(level), slide.sizes[level]
    downsample = slide.downsamples[level]
    x = _window(area.x, area.width, width, step_x, level_width, downsample)
    y = _window(area.y, area.height, height, step_y, level_height, downsample)
    blocks_begun[0] += 1
    if x.count < 1 or y.count < 1:
        return np.full((height, width, 3), 255, np.uint8)
    rgb = _read(slide, level, x, y)
    if any((*x.white, *x.edge, *y.white, *y.edge)):
        rgb = _surrounded(rgb, x, y)
    if x.is_whole and y.is_whole:
        return rgb
    box = (x.start, y.start, x.start + area.width / step_x, y.start + area.height / step_y)
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR, box=box))


@dataclass(frozen=True)
class _Window:
    """What to read of a level along one axis: `count` pixels at `location`, and what to put around them."""

    location: int  # level-0 px
    count: int
    white: tuple[int, int]  # white pixels before and after
    edge: tuple[int, int]  # repetitions of the slide's outermost pixel before and after
    start: float  # px from the first of all these pixels to where the area starts
    is_whole: bool  # the area is whole pixels of the level, one for each of the result, and no others are read


def _window(x: float, span: float, pixels: int, step: float, level_pixels: int, downsample: float) -> _Window:
    """Choose what shows [x, x + span), level-0 px, resampled to `pixels`; step: level-0 px a pixel of the level.

    The filter's margin ends at the level's edge; only an area that itself reaches outside has white there.
    """
    start, length, half = x / step, span / step, 0.5 / step + 1e-6  # half a level-0 px: corners are rounded
    end = start + length
    copies = length == pixels and start.is_integer() and (start * downsample).is_integer()
    margin = 0 if copies else math.ceil(max(1.0, length / pixels))
    low, high = math.floor(start) - margin, math.ceil(end) + margin
    location = math.floor(max(0, low) * downsample + 1e-6)
    first = location / downsample  # OpenSlide interpolates: a little before `low` where the downsample is not whole
    count = min(math.ceil(high - first), math.floor(level_pixels - first + 1e-3))
    last = first + count
    white = (max(0, -low) if start < -half else 0, max(0, math.ceil(high - last)) if end > level_pixels + half else 0)
    edge = (0 if white[0] else max(0, -math.floor(start)), 0 if white[1] else max(0, math.ceil(end - last - 1e-6)))
    offset = start - first + white[0] + edge[0]
    is_whole = copies and offset == 0 and count + sum(white) + sum(edge) == pixels
    return _Window(location, count, white, edge, offset, is_whole)


def _read(slide: _Slide, level: int, x: _Window, y: _Window) -> Pixels:
    """The pixels of a level: from its JPEG tiles where these have them, else OpenSlide's."""
    left, top = x.location / slide.downsamples[level], y.location / slide.downsamples[level]
    found = None
    if left.is_integer() and top.is_integer():  # else OpenSlide interpolates
        found = slide.tiles.read(level, int(left), int(top), x.count, y.count)
    if found is not None and slide.tiles.has_agreed(level):
        return found
    pixels = _on_white(slide.handle.read_region((x.location, y.location), level, (x.count, y.count)))
    if found is not None:
        slide.tiles.compare(level, found, pixels)
    return pixels


def _surrounded(rgb: Pixels, x: _Window, y: _Window) -> Pixels:
    pixels = np.pad(rgb, (y.edge, x.edge, (0, 0)), mode="edge")
    return np.pad(pixels, (y.white, x.white, (0, 0)), constant_values=255)


def _on_white(rgba: Image.Image) -> Pixels:
    rgb = rgba.convert("RGB")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() != (255, 255):
        rgb = Image.composite(rgb, Image.new("RGB", rgba.size, (255, 255, 255)), alpha)
    return np.asarray(rgb)
