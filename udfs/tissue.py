"""Where a slide holds tissue: measured once a slide, from a low-resolution level."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from udfs.errors import SlideError
from udfs.registry import Column, udf
from udfs.slide import Area, FileState, Pixels, dimensions, file_state, read_area

Lengths = NDArray[np.float64]

MASK_EDGE = 4096  # px, longest edge of the low-resolution image that is measured
MASK_STEP = 2  # level-0 px that one of its pixels stands for, at least
MAPS_KEPT = 8  # of the slides used last, at most 67 MB each
STRIP = 128  # rows measured at once: what fits the processor's cache is fast, and memory stays small
PIECE = 256  # px of the map that are given up together where a slide cannot be read
CHROMA_WEIGHT = 2.0  # colour tells tissue from grey shadows and dust better than darkness does
BLACK = 30  # grey level below which neutral pixels are scanner border, not tissue
SMOOTH = ImageFilter.Kernel((3, 3), (1, 2, 1, 2, 4, 2, 1, 2, 1))  # a Gaussian of 0.7 px, but fast


def optical_density(rgb: Pixels, glass: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much darker and more coloured than glass each pixel is, 0 for glass.

    rgb: (h, w, 3). glass: (3,), its colour. Returns (h, w): the mean optical density above glass
    (log10, Beer-Lambert) plus twice the spread between channels, which stain has and shadow has not.
    Near-black neutral pixels (scanner borders) count as glass.
    """
    planes = [np.asarray(plane) for plane in Image.fromarray(rgb).filter(SMOOTH).split()]
    grey_levels = np.maximum(np.arange(256), 1)[:, None]
    densities = -np.log10(grey_levels / np.maximum(glass, 1)).astype(np.float32)  # (256, 3): a table is fast
    stain = np.empty(rgb.shape[:2], np.float32)
    for top in range(0, len(stain), STRIP):
        strip = [plane[top : top + STRIP] for plane in planes]
        red, green, blue = (densities[:, channel][plane] for channel, plane in enumerate(strip))
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        stain[top : top + STRIP] = (red + green + blue) / 3 + CHROMA_WEIGHT * spread
        stain[top : top + STRIP][np.maximum(np.maximum(strip[0], strip[1]), strip[2]) < BLACK] = 0
    return np.maximum(stain, 0, out=stain)


def glass_colour(rgb: Pixels) -> NDArray[np.float32]:
    """The colour of the slide's bare glass, (3,): the commonest of its brightest neutral pixels.

    Pure white (padding, and what was never scanned) is set aside where other bright pixels exist.
    A slide without a bright pixel is measured against white.
    """
    planes = [np.ascontiguousarray(rgb[..., channel]) for channel in range(3)]
    darkest = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    brightest = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    is_candidate = (darkest >= 190) & (brightest - darkest <= 24) & (darkest < 255)
    if np.count_nonzero(is_candidate) < 0.001 * darkest.size:
        return np.full(3, 255, np.float32)
    commonest = int(np.bincount(darkest[is_candidate], minlength=256).argmax())
    is_glass = is_candidate & (darkest >= commonest - 2) & (darkest <= commonest + 2)
    return np.array([np.median(plane[is_glass]) for plane in planes], np.float32)


@dataclass(frozen=True)
class TissueMap:
    """Sums over a slide's tissue, from which the tissue in any rectangle follows at once."""

    integral: NDArray[np.int32]  # (h + 1, w + 1), tissue pixels above and left
    step_x: float  # level-0 px a map pixel
    step_y: float

    def fraction(self, x: Lengths, y: Lengths, width: Lengths, height: Lengths) -> NDArray[np.float64]:
        """Fraction of each rectangle that is tissue, 0 to 1. Lengths in level-0 px; all of shape (n,)."""
        left, right = x / self.step_x, (x + width) / self.step_x
        top, bottom = y / self.step_y, (y + height) / self.step_y
        inside = self._sum(right, bottom) - self._sum(left, bottom) - self._sum(right, top) + self._sum(left, top)
        return np.asarray(np.clip(inside / ((right - left) * (bottom - top)), 0, 1))

    def _sum(self, x: Lengths, y: Lengths) -> NDArray[np.float64]:
        """The integral at fractions of a map pixel, interpolated: exact for a map of whole pixels."""
        rows, columns = self.integral.shape
        x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
        x0, y0 = np.minimum(x.astype(int), columns - 2), np.minimum(y.astype(int), rows - 2)
        fx, fy = x - x0, y - y0
        top = self.integral[y0, x0] * (1 - fx) + self.integral[y0, x0 + 1] * fx
        bottom = self.integral[y0 + 1, x0] * (1 - fx) + self.integral[y0 + 1, x0 + 1] * fx
        return np.asarray(top * (1 - fy) + bottom * fy)


_maps: OrderedDict[tuple[FileState, float], Future[TissueMap]] = OrderedDict()
_maps_lock = threading.Lock()


def tissue_map(path: str, threshold: float) -> TissueMap:
    """The slide's tissue map, measured once and kept for the slides used last.

    threshold: least optical density above glass (see `optical_density`) that is tissue.
    Threads that ask for one slide wait for one measuring; different slides are measured side by side.
    Raises SlideError when the slide cannot be read.
    """
    key = file_state(path), threshold
    with _maps_lock:
        known = _maps.get(key)
        measuring = known or _maps.setdefault(key, Future())
        _maps.move_to_end(key)
        while len(_maps) > MAPS_KEPT:
            _maps.popitem(last=False)
    if known is None:
        try:
            measuring.set_result(_measure(path, threshold))
        except BaseException as error:  # whatever it is, those who wait must hear of it
            measuring.set_exception(error)
            with _maps_lock:
                _maps.pop(key, None)
    return measuring.result()


def _measure(path: str, threshold: float) -> TissueMap:
    width, height = dimensions(path)
    step = max(MASK_STEP, max(width, height) / MASK_EDGE)
    columns, rows = max(1, round(width / step)), max(1, round(height / step))
    try:
        rgb, is_unreadable = read_area(path, Area(0, 0, width, height), columns, rows), None
    except SlideError:
        rgb, is_unreadable = _readable(path, columns, rows)
    is_tissue = optical_density(rgb, glass_colour(rgb)) >= threshold
    if is_unreadable is not None:
        is_tissue |= is_unreadable
    integral = np.zeros((rows + 1, columns + 1), np.int32)
    np.cumsum(is_tissue, axis=0, dtype=np.int32, out=integral[1:, 1:])
    np.cumsum(integral[1:, 1:], axis=1, out=integral[1:, 1:])
    return TissueMap(integral, width / columns, height / rows)


def _readable(path: str, columns: int, rows: int) -> tuple[Pixels, NDArray[np.bool_]]:
    """The slide piece by piece, (rows, columns, 3), and which of its pixels lie in pieces that cannot be read.

    These count as tissue: their patches are then asked for, and recorded with the reason they fail.
    Raises the SlideError of the last piece if not one can be read.
    """
    width, height = dimensions(path)
    step_x, step_y = width / columns, height / rows
    rgb, is_unreadable = np.full((rows, columns, 3), 255, np.uint8), np.zeros((rows, columns), np.bool_)
    failure: SlideError | None = None
    for top in range(0, rows, PIECE):
        for left in range(0, columns, PIECE):
            down, across = min(PIECE, rows - top), min(PIECE, columns - left)
            piece = np.s_[top : top + down, left : left + across]
            area = Area(left * step_x, top * step_y, across * step_x, down * step_y)
            try:
                rgb[piece] = read_area(path, area, across, down)
            except SlideError as error:
                is_unreadable[piece], failure = True, error
    if failure and is_unreadable.all():
        raise failure
    return rgb, is_unreadable


@udf("VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "DOUBLE", returns="DOUBLE")
def tissue_fraction(path: Column, x: Column, y: Column, span_x: Column, span_y: Column, threshold: Column) -> pa.Array:
    """Fraction of each rectangle that is tissue, 0 to 1; NULL where an argument is, or it has no area.

    x, y: top-left corner; span_x, span_y: width and height, level-0 pixels. threshold: least optical
    density above the slide's own glass that counts as tissue, about 0.02 (faint) to 0.2 (dense).
    The slide is measured once, from its low-resolution level; parts that cannot be read count as tissue.
    Raises SlideError naming the slide that cannot be read at all.
    """
    squares = [column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in (x, y, span_x, span_y)]
    is_known = np.isfinite(squares).all(axis=0) & (squares[2] > 0) & (squares[3] > 0)
    rows_of: dict[tuple[str, float], list[int]] = {}
    for row, key in enumerate(zip(path.to_pylist(), threshold.to_pylist(), strict=True)):
        if None in key or not is_known[row]:
            is_known[row] = False
        else:
            rows_of.setdefault(key, []).append(row)
    result = np.zeros(len(path))
    for key, rows in rows_of.items():
        result[rows] = tissue_map(*key).fraction(*(values[rows] for values in squares))
    return pa.array(result, mask=~is_known)
