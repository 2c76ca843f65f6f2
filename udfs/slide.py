"""The only code that touches OpenSlide: properties, exact resampling, recovery from bad tiles.

Coordinates are level-0 pixels, (x, y) from the top-left corner; sizes are (width, height).
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import openslide
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from udfs.cache_room import idle_holders
from udfs.errors import SlideError
from udfs.exhaustion import raise_if_exhausted
from udfs.jpeg_tiles import JpegTiles
from udfs.registry import Column, udf
from udfs.slide_cache import LocalFile, local

Pixels = NDArray[np.uint8]
FileState = tuple[str, int, int, int]

LIBRARY_VERSION = openslide.__library_version__
OPEN_SLIDES = 16  # handles kept open in this process,
OPEN_COPIES = 2  # and of them, those of fetched slides, which the cache cannot delete meanwhile
TILE_CACHE_BYTES = 256 * 2**20  # decoded tiles, shared by all handles
BLOCK_EDGE = 4096  # px of a level, most decoded at once along each axis when a large area is reduced
MOST_REDUCTION = 256  # px of a level that the filter makes into one, along each axis; the rest is averaged after it
LONGEST = 2**22  # level-0 px, more than any slide's edge
MOST_PIXELS = 2**28  # of one result
MOST_BYTES = 2**31 - 1  # of pixels in one batch: what an Arrow array of blobs can address

_READ_ERRORS = (openslide.OpenSlideError, OSError, ValueError, MemoryError)


@dataclass(frozen=True)
class _Slide:
    """An open slide and the shape of its levels, which a poisoned handle would no longer tell."""

    path: str  # or address, as it was asked for
    local: LocalFile
    handle: openslide.OpenSlide
    vendor: str
    sizes: tuple[tuple[int, int], ...]  # width and height of each level
    downsamples: tuple[float, ...]  # of each level, as OpenSlide places pixels by: the mean of both axes

    @cached_property
    def tiles(self) -> JpegTiles:
        """What can be read of the slide without OpenSlide."""
        return JpegTiles(self.local.file, self.vendor, self.sizes)

    def steps(self, level: int) -> tuple[float, float]:
        """Level-0 px that one px of the level is wide and high: not whole, and not the same, in general."""
        (full_width, full_height), (width, height) = self.sizes[0], self.sizes[level]
        return full_width / width, full_height / height

    def best_level(self, scale_x: float, scale_y: float) -> int:
        """The coarsest level whose pixels are no larger than (scale_x, scale_y) level-0 px, else level 0."""
        steps = enumerate(map(self.steps, range(len(self.sizes))))
        fine = [level for level, (x, y) in steps if x <= scale_x * 1.001 and y <= scale_y * 1.001]
        return max(fine, default=0)


class _Handles:
    """The open slides of this process, least recently used closed first.

    OpenSlide handles may be read by several threads at once, but one unreadable tile makes every
    later read of its handle fail: `drop` forgets such a handle, which closes once nobody reads it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[FileState, _Slide] = OrderedDict()
        self._cache = openslide.OpenSlideCache(TILE_CACHE_BYTES)

    def get(self, path: str) -> _Slide:
        local_file = local(path)
        key = _state(path, local_file.file)  # a file that was replaced is another slide
        with self._lock:
            slide = self._open.get(key)
        if slide is None:
            opened = self.fresh(path)  # outside the lock: opening one slide does not hold up readers of others
            with self._lock:
                slide = self._open.setdefault(key, opened)
                self._close_some()
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
        return slide

    def _close_some(self) -> None:
        while len(self._open) > OPEN_SLIDES:
            self._open.popitem(last=False)
        copies = [key for key, slide in self._open.items() if slide.path != slide.local.file]
        for key in copies[:-OPEN_COPIES]:
            del self._open[key]

    def drop(self, slide: _Slide) -> None:
        with self._lock:
            for key in [key for key, held in self._open.items() if held is slide]:
                del self._open[key]

    def forget(self, file: str) -> None:
        """Let go of a file that nobody reads now."""
        with self._lock:
            for key in [key for key, held in self._open.items() if held.local.file == file]:
                del self._open[key]

    def fresh(self, path: str) -> _Slide:
        local_file = local(path)
        try:
            handle = openslide.OpenSlide(local_file.file)
            handle.set_cache(self._cache)
            vendor = handle.properties[openslide.PROPERTY_NAME_VENDOR]
            return _Slide(path, local_file, handle, vendor, handle.level_dimensions, handle.level_downsamples)
        except openslide.OpenSlideUnsupportedFormatError:
            raise SlideError(f"{path}: OpenSlide does not know this format; is it a whole-slide image?") from None
        except _READ_ERRORS as error:
            raise_if_exhausted(error, path)
            raise SlideError(f"{path}: the slide cannot be opened ({error}); copy or convert it again") from error


_handles = _Handles()
idle_holders.append(_handles.forget)


@dataclass(frozen=True)
class Area:
    """A rectangle of a slide: top-left corner and size in level-0 pixels, fractions allowed."""

    x: float
    y: float
    width: float
    height: float


def file_state(path: str) -> FileState:
    """What changes when the file is replaced or written to; fetches a slide that has an address.

    Raises SlideError when there is none.
    """
    return _state(path, local(path).file)


def _state(path: str, file: str) -> FileState:
    try:
        stat = os.stat(file)
    except OSError as error:
        raise SlideError(f"{path}: {error.strerror}; was the slide moved?") from None
    except ValueError as error:
        raise SlideError(f"{path!r}: no file can have this name ({error})") from None
    return file, stat.st_ino, stat.st_mtime_ns, stat.st_size


def dimensions(path: str) -> tuple[int, int]:
    """Width and height of the slide, level-0 pixels."""
    return _handles.get(path).sizes[0]


def metadata(path: str) -> dict[str, str]:
    """The properties that OpenSlide gives of the slide, and its level-0 `width` and `height`.

    Decodes pixels of every level first. Raises SlideError when the slide cannot be opened or one
    of its levels cannot be read: neither at its first, nor its middle, nor its last pixel.
    """
    for level in range(len(_handles.get(path).sizes)):
        _probe(path, level)
    slide = _handles.get(path)
    width, height = slide.sizes[0]
    try:
        properties = dict(slide.handle.properties)
    except _READ_ERRORS:  # poisoned by another thread just now
        properties = dict(_handles.fresh(path).handle.properties)
    return {**properties, "width": str(width), "height": str(height)}


def _probe(path: str, level: int) -> None:
    failure: Exception | None = None
    for place in (0, 0.5, 1):
        slide = _handles.get(path)
        x, y = (int(place * (edge - 1)) for edge in slide.sizes[0])
        try:
            slide.handle.read_region((x, y), level, (1, 1))
            return
        except _READ_ERRORS as error:
            _handles.drop(slide)
            failure = error
    if failure is not None:
        raise_if_exhausted(failure, path)
    raise SlideError(f"{path}: the slide opens but cannot be read ({failure}); copy or convert it again") from failure


def read_area(path: str, area: Area, width: int, height: int) -> Pixels:
    """Read `area` of a slide resampled to exactly (width, height) px.

    Returns RGB, shape (height, width, 3). What lies outside the slide, or was not scanned, is white;
    an area that ends within half a pixel of the slide's edge ends at it.
    The coarsest level that is fine enough is resampled with an anti-aliasing filter whose window is
    the area itself, so neither mpp nor position is rounded to a level's pixels.
    Raises SlideError naming slide and area when its pixels cannot be read.
    """
    where = f"{area.width:g} x {area.height:g} px at ({area.x:g}, {area.y:g})"
    if not _is_sensible(area) or width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise SlideError(f"{path}: {where} cannot be read as {width} x {height} px; ask for an area of a slide's size")
    slide = _handles.get(path)
    try:
        return _resample(slide, area, width, height)
    except _READ_ERRORS:
        _handles.drop(slide)  # poisoned, perhaps by another thread's tile: ask a handle of our own
    try:
        return _resample(_handles.fresh(path), area, width, height)
    except _READ_ERRORS as error:
        raise_if_exhausted(error, path)
        raise SlideError(f"{path}: cannot read {where} ({error}); copy or convert the slide again") from error


def _is_sensible(area: Area) -> bool:  # false for NaN too
    return all(-LONGEST < at < LONGEST for at in (area.x, area.y)) and all(
        0 < length < LONGEST for length in (area.width, area.height)
    )


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


@udf(
    *("VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "INTEGER"),
    returns="STRUCT(pixels BLOB, error VARCHAR)",
)
def crop(path: Column, x: Column, y: Column, span_x: Column, span_y: Column, input_px: Column) -> pa.Array:
    """Read one patch a row, resampled to input_px x input_px.

    x, y: top-left corner; span_x, span_y: width and height, level-0 pixels.
    pixels: RGB bytes, row by row, input_px * input_px * 3 of them; NULL where they cannot be read,
    and then error says why. Unreadable pixels are never replaced by others. NULL in, NULL out.
    """
    columns = [column.to_pylist() for column in (path, x, y, span_x, span_y, input_px)]
    pixels: list[bytes | None] = []
    errors: list[str | None] = []
    is_null: list[bool] = []
    room = MOST_BYTES
    for row in zip(*columns, strict=True):
        is_null.append(None in row)
        found, error = (None, None) if None in row else _crop(*row)
        room -= len(found or b"")
        if room < 0:
            raise SlideError(
                f"{row[0]}: the patches of one batch exceed {MOST_BYTES:,} bytes; read fewer, or smaller ones"
            )
        pixels.append(found)
        errors.append(error)
    parts = [pa.array(pixels, pa.binary()), pa.array(errors, pa.string())]
    return pa.StructArray.from_arrays(parts, ["pixels", "error"], mask=pa.array(is_null))


def _crop(path: str, x: int, y: int, span_x: float, span_y: float, input_px: int) -> tuple[bytes | None, str | None]:
    try:
        return read_area(path, Area(x, y, span_x, span_y), input_px, input_px).tobytes(), None
    except SlideError as error:
        return None, str(error)
