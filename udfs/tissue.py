"""Where a slide holds tissue: measured once a slide, from a low-resolution level."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from udfs.registry import Column, udf
from udfs.slide import Area, dimensions, read_area

MASK_EDGE = 4096  # px, longest edge of the low-resolution image that is measured
MASK_STEP = 2  # level-0 px that one of its pixels stands for, at least
CHROMA_WEIGHT = 2.0  # colour tells tissue from grey shadows and dust better than darkness does
BLACK = 30  # grey level below which neutral pixels are scanner border, not tissue


def optical_density(rgb: NDArray[np.uint8], glass: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much darker and more coloured than glass each pixel is, 0 for glass.

    rgb: (h, w, 3). glass: (3,), its colour. Returns (h, w): the mean optical density above glass
    (log10, Beer-Lambert) plus twice the spread between channels, which stain has and shadow has not.
    Near-black neutral pixels (scanner borders) count as glass.
    """
    smooth = np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(0.7)))
    grey_levels = np.maximum(np.arange(256), 1)[:, None]
    densities = -np.log10(grey_levels / np.maximum(glass, 1)).astype(np.float32)  # (256, 3): a table is fast
    red, green, blue = (densities[:, channel][smooth[..., channel]] for channel in range(3))
    low, high = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    stain = (red + green + blue) / 3 + CHROMA_WEIGHT * (high - low)
    stain[(smooth < BLACK).all(axis=-1)] = 0
    return np.maximum(stain, 0)


def glass_colour(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The colour of the slide's bare glass, (3,): the commonest of its brightest neutral pixels.

    Pure white (padding, and what was never scanned) is set aside where other bright pixels exist.
    A slide without a bright pixel is measured against white.
    """
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    darkest, brightest = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
    is_candidate = (darkest >= 190) & (brightest - darkest <= 24)
    is_padding = darkest == 255
    candidates = rgb[is_candidate & ~is_padding]
    if len(candidates) < 0.001 * darkest.size:
        return np.full(3, 255, np.float32)
    grey = candidates.min(axis=-1)
    commonest = int(np.bincount(grey, minlength=256).argmax())
    return np.median(candidates[np.abs(grey.astype(int) - commonest) <= 2], axis=0).astype(np.float32)


@dataclass(frozen=True)
class TissueMap:
    """Sums over a slide's tissue, from which the tissue in any rectangle follows at once."""

    integral: NDArray[np.int64]  # (h + 1, w + 1), tissue pixels above and left
    step_x: float  # level-0 px a map pixel
    step_y: float

    def fraction(self, x: NDArray, y: NDArray, width: NDArray, height: NDArray) -> NDArray[np.float64]:  # type: ignore[type-arg]
        """Fraction of each rectangle that is tissue, 0 to 1. Lengths in level-0 px; all of shape (n,)."""
        left, right = x / self.step_x, (x + width) / self.step_x
        top, bottom = y / self.step_y, (y + height) / self.step_y
        inside = self._sum(right, bottom) - self._sum(left, bottom) - self._sum(right, top) + self._sum(left, top)
        return np.clip(inside / ((right - left) * (bottom - top)), 0, 1)

    def _sum(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """The integral at fractions of a map pixel, interpolated: exact for a map of whole pixels."""
        rows, columns = self.integral.shape
        x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
        x0, y0 = np.minimum(x.astype(int), columns - 2), np.minimum(y.astype(int), rows - 2)
        fx, fy = x - x0, y - y0
        top = self.integral[y0, x0] * (1 - fx) + self.integral[y0, x0 + 1] * fx
        bottom = self.integral[y0 + 1, x0] * (1 - fx) + self.integral[y0 + 1, x0 + 1] * fx
        return np.asarray(top * (1 - fy) + bottom * fy)


_measuring = threading.Lock()


def tissue_map(path: str, threshold: float) -> TissueMap:
    """The slide's tissue map, measured once and kept for the slides used last.

    threshold: least optical density above glass (see `optical_density`) that is tissue.
    Raises SlideError when the slide cannot be read.
    """
    with _measuring:  # two threads that ask for one slide shall not both read it
        return _measure(path, os.stat(path).st_mtime_ns, threshold)


@lru_cache(maxsize=4)
def _measure(path: str, _modified: int, threshold: float) -> TissueMap:
    width, height = dimensions(path)
    step = max(MASK_STEP, max(width, height) / MASK_EDGE)
    columns, rows = max(1, round(width / step)), max(1, round(height / step))
    rgb = read_area(path, Area(0, 0, width, height), columns, rows)
    is_tissue = optical_density(rgb, glass_colour(rgb)) >= threshold
    integral = np.zeros((rows + 1, columns + 1), np.int64)
    integral[1:, 1:] = is_tissue.cumsum(axis=0).cumsum(axis=1)
    return TissueMap(integral, width / columns, height / rows)


@udf("VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "DOUBLE", returns="DOUBLE")
def tissue_fraction(path: Column, x: Column, y: Column, span_x: Column, span_y: Column, threshold: Column) -> pa.Array:
    """Fraction of each rectangle that is tissue, 0 to 1.

    x, y: top-left corner; span_x, span_y: width and height, level-0 pixels. threshold: least optical
    density above the slide's own glass that counts as tissue, about 0.02 (faint) to 0.2 (dense).
    The slide is measured once, from its low-resolution level.
    Raises SlideError naming the slide that cannot be read.
    """
    paths, thresholds = np.array(path.to_pylist(), object), threshold.to_numpy(zero_copy_only=False)
    squares = [column.to_numpy(zero_copy_only=False).astype(np.float64) for column in (x, y, span_x, span_y)]
    result = np.empty(len(paths), np.float64)
    for key in sorted(set(zip(paths, thresholds, strict=True))):
        rows = (paths == key[0]) & (thresholds == key[1])
        result[rows] = tissue_map(*key).fraction(*(values[rows] for values in squares))
    return pa.array(result)
