"""The only code that touches OpenSlide: properties, exact resampling, recovery from bad tiles.

Coordinates are level-0 pixels, (x, y) from the top-left corner; sizes are (width, height).
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import openslide
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from udfs.errors import SlideError
from udfs.registry import Column, udf

Pixels = NDArray[np.uint8]

OPEN_SLIDES = 16  # handles kept open in this process
TILE_CACHE_BYTES = 256 * 2**20  # decoded tiles, shared by all handles
STRIP_PIXELS = 2**24  # most pixels decoded at once when a large area is reduced

_READ_ERRORS = (openslide.OpenSlideError, OSError, ValueError, MemoryError)


class _Handles:
    """The open slides of this process, least recently used closed first.

    OpenSlide handles may be read by several threads at once, but one unreadable tile makes every
    later read of its handle fail: `drop` forgets such a handle, which closes once nobody reads it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, int, int], openslide.OpenSlide] = OrderedDict()
        self._cache: openslide.OpenSlideCache | None = None

    def get(self, path: str) -> openslide.OpenSlide:
        key = self._key(path)
        with self._lock:
            slide = self._open.get(key)
            if slide is None:
                slide = self.fresh(path)
                self._open[key] = slide
                while len(self._open) > OPEN_SLIDES:
                    self._open.popitem(last=False)
            self._open.move_to_end(key)
            return slide

    def drop(self, slide: openslide.OpenSlide) -> None:
        with self._lock:
            for key in [key for key, held in self._open.items() if held is slide]:
                del self._open[key]

    def fresh(self, path: str) -> openslide.OpenSlide:
        if self._cache is None:
            self._cache = openslide.OpenSlideCache(TILE_CACHE_BYTES)
        try:
            slide = openslide.OpenSlide(path)
            slide.set_cache(self._cache)
        except openslide.OpenSlideUnsupportedFormatError:
            raise SlideError(f"{path}: OpenSlide does not know this format; is it a whole-slide image?") from None
        except _READ_ERRORS as error:
            raise SlideError(f"{path}: the slide cannot be opened ({error}); copy or convert it again") from error
        return slide

    @staticmethod
    def _key(path: str) -> tuple[str, int, int]:
        try:
            stat = os.stat(path)
        except OSError as error:
            raise SlideError(f"{path}: {error.strerror}; was the slide moved?") from None
        return path, stat.st_mtime_ns, stat.st_size


_handles = _Handles()


@dataclass(frozen=True)
class Area:
    """A rectangle of a slide: top-left corner and size in level-0 pixels, fractions allowed."""

    x: float
    y: float
    width: float
    height: float


def dimensions(path: str) -> tuple[int, int]:
    """Width and height of the slide, level-0 pixels."""
    width, height = _handles.get(path).dimensions
    return int(width), int(height)


def metadata(path: str) -> dict[str, str]:
    """The properties that OpenSlide gives of the slide, and its level-0 `width` and `height`.

    Decodes one pixel of every level first. Raises SlideError when the slide cannot be opened or
    one of its levels cannot be read.
    """
    slide = _handles.get(path)
    try:
        for level in range(slide.level_count):
            slide.read_region((0, 0), level, (1, 1))
    except _READ_ERRORS as error:
        _handles.drop(slide)
        raise SlideError(f"{path}: the slide opens but cannot be read ({error}); copy or convert it again") from error
    width, height = slide.dimensions
    return {**slide.properties, "width": str(width), "height": str(height)}


def read_area(path: str, area: Area, width: int, height: int) -> Pixels:
    """Read `area` of a slide resampled to exactly (width, height) px.

    Returns RGB, shape (height, width, 3). What lies outside the slide, or was not scanned, is white.
    The finest level that is not finer than needed is resampled with an anti-aliasing filter whose
    window is the area itself, so neither mpp nor position is rounded to a level's pixels.
    Raises SlideError naming slide and area when its pixels cannot be read.
    """
    slide = _handles.get(path)
    try:
        return _resample(slide, area, width, height)
    except _READ_ERRORS:
        _handles.drop(slide)  # poisoned, perhaps by another thread's tile: ask a handle of our own
    try:
        return _resample(_handles.fresh(path), area, width, height)
    except _READ_ERRORS as error:
        where = f"{area.width:g} x {area.height:g} px at ({area.x:g}, {area.y:g})"
        raise SlideError(f"{path}: cannot read {where}: {error}") from error


def _resample(slide: openslide.OpenSlide, area: Area, width: int, height: int) -> Pixels:
    wanted = min(area.width / width, area.height / height)
    level = slide.get_best_level_for_downsample(wanted * 1.001)
    levels_x = slide.dimensions[0] / slide.level_dimensions[level][0]
    levels_y = slide.dimensions[1] / slide.level_dimensions[level][1]
    rows = max(1, STRIP_PIXELS // max(1, math.ceil(area.width / levels_x)))  # of the level, in one strip
    step = max(1, int(rows * levels_y * height / area.height))  # of the result
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        scale = area.height / height
        part = Area(area.x, area.y + top * scale, area.width, (bottom - top) * scale)
        out[top:bottom] = _resample_strip(slide, level, levels_x, levels_y, part, width, bottom - top)
    return out


def _resample_strip(
    slide: openslide.OpenSlide, level: int, levels_x: float, levels_y: float, area: Area, width: int, height: int
) -> Pixels:
    """Read one strip of a level, with a margin for the filter, and resample the exact window in it."""
    left, top = area.x / levels_x, area.y / levels_y
    right, bottom = left + area.width / levels_x, top + area.height / levels_y
    margin_x = 0 if right - left == width and left.is_integer() else math.ceil(2 * (right - left) / width)
    margin_y = 0 if bottom - top == height and top.is_integer() else math.ceil(2 * (bottom - top) / height)
    first_x, first_y = math.floor(left) - margin_x, math.floor(top) - margin_y
    size = (math.ceil(right) + margin_x - first_x, math.ceil(bottom) + margin_y - first_y)
    rgba = slide.read_region((round(first_x * levels_x), round(first_y * levels_y)), level, size)
    rgb = _on_white(rgba)
    if rgb.size != (width, height) or margin_x or margin_y:
        box = (left - first_x, top - first_y, right - first_x, bottom - first_y)
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(rgb)


def _on_white(rgba: Image.Image) -> Image.Image:
    alpha = rgba.getchannel("A")
    rgb = rgba.convert("RGB")
    if alpha.getextrema() == (255, 255):
        return rgb
    white = Image.new("RGB", rgba.size, (255, 255, 255))
    return Image.composite(rgb, white, alpha)


@udf(
    *("VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "INTEGER"),
    returns="STRUCT(pixels BLOB, error VARCHAR)",
)
def crop(path: Column, x: Column, y: Column, span_x: Column, span_y: Column, input_px: Column) -> pa.Array:
    """Read one patch a row, resampled to input_px x input_px.

    x, y: top-left corner; span_x, span_y: width and height, level-0 pixels.
    pixels: RGB bytes, row by row, input_px * input_px * 3 of them; NULL where they cannot be read,
    and then error says why. Unreadable pixels are never replaced by others.
    """
    pixels: list[bytes | None] = []
    errors: list[str | None] = []
    columns = (path, x, y, span_x, span_y, input_px)
    for source, left, top, width, height, size in zip(*(column.to_pylist() for column in columns), strict=True):
        try:
            pixels.append(read_area(source, Area(left, top, width, height), size, size).tobytes())
            errors.append(None)
        except SlideError as error:
            pixels.append(None)
            errors.append(str(error))
    return pa.StructArray.from_arrays([pa.array(pixels, pa.binary()), pa.array(errors, pa.string())], ["pixels", "error"])
