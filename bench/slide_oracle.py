"""What a patch of a damaged slide may show: the sound slide's pixels, or what another decoder makes of the file.

tifffile and imagecodecs read the tiles here; nothing of histolake or OpenSlide does.
"""

from __future__ import annotations

import io
import math
import zlib
from functools import cached_property
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from slide_originals import Original

PATCH_PX, BLOCK_PX = 64, 16  # of a patch as it is embedded, and of the squares whose means are its embedding
NEAR = 4 / 255  # that the mean of a square may be off: decoders differ in how they round and enlarge chroma
WHITE = 255
FRAME_PX = 256  # of the DICOM slide
GREY = {0, 1}  # of TIFF's photometric interpretations: 0 is white, or black
DEFLATE = {8, 32946}  # of TIFF's compressions

Pixels = NDArray[np.uint8]
Means = NDArray[np.float64]


class Oracle:
    """Level 0 of a damaged slide, by tifffile and imagecodecs. width, height: as the lake has them."""

    def __init__(self, path: Path, original: Original, width: int, height: int) -> None:
        self._data, self._original = path.read_bytes(), original
        self._size = width, height
        self._tiles: dict[int, Pixels | None] = {}

    @cached_property
    def _page(self) -> tifffile.TiffPage | None:
        try:
            tiff = tifffile.TiffFile(io.BytesIO(self._data))
            pages = [page.aspage() for page in tiff.pages]
            return next(page for page in pages if (page.imagewidth, page.imagelength) == self._size and page.is_tiled)
        except Exception:  # whatever it is, this decoder has no opinion
            return None

    def patch(self, x: float, y: float, width: float, height: float) -> Pixels | None:
        """The pixels of the level around an area, white outside; None where this decoder has none."""
        grid = self._grid()
        if grid is None:
            return None
        wide, high, across = grid
        left, top = math.floor(x), math.floor(y)
        out = np.full((math.ceil(y + height) - top, math.ceil(x + width) - left, 3), WHITE, np.uint8)
        for row in range(max(0, top) // high, (top + out.shape[0] - 1) // high + 1):
            for column in range(max(0, left) // wide, (left + out.shape[1] - 1) // wide + 1):
                tile = self._tile(row * across + column)
                if tile is None:
                    return None
                y0, x0 = row * high - top, column * wide - left
                part = tile[max(0, -y0) : out.shape[0] - y0, max(0, -x0) : out.shape[1] - x0]
                out[max(0, y0) : max(0, y0) + part.shape[0], max(0, x0) : max(0, x0) + part.shape[1]] = part
        return out

    def _grid(self) -> tuple[int, int, int] | None:
        """Width and height of a tile, and how many stand side by side."""
        if self._original.frames:
            return FRAME_PX, FRAME_PX, -(-self._size[0] // FRAME_PX)
        page = self._page
        return None if page is None else (page.tilewidth, page.tilelength, -(-page.imagewidth // page.tilewidth))

    def _tile(self, number: int) -> Pixels | None:
        if number not in self._tiles:
            self._tiles[number] = self._decoded(number)
        return self._tiles[number]

    def _decoded(self, number: int) -> Pixels | None:
        try:
            if self._original.frames:
                offset, length = self._original.frames[number]
                return np.asarray(imagecodecs.jpeg_decode(self._data[offset : offset + length]))
            return None if self._page is None else self._decoded_by(self._page, number)
        except Exception:  # see above
            return None

    def _decoded_by(self, page: tifffile.TiffPage, number: int) -> Pixels | None:
        offset, length = page.dataoffsets[number], page.databytecounts[number]
        shape = (page.tilelength, page.tilewidth, 3)
        if length == 0:  # TIFF's word for what was not scanned
            return np.full(shape, WHITE, np.uint8)
        data = self._data[offset : offset + length]
        if page.compression in DEFLATE:  # as libtiff: what comes behind a whole tile is not looked at
            return np.frombuffer(zlib.decompressobj().decompress(data, math.prod(shape)), np.uint8).reshape(shape)
        tile = np.asarray(page.decode(data, number, jpegtables=page.jpegtables)[0])
        tile = tile.reshape(tile.shape[-3:])
        if page.photometric in GREY:  # the other samples mean something else
            grey = tile[..., :1] if page.photometric else WHITE - tile[..., :1]
            tile = np.repeat(grey, 3, axis=2)
        return tile if len(tile.shape) == 3 and tile.shape[-1] == 3 and tile.dtype == np.uint8 else None


def means(pixels: Pixels, x: float, y: float, width: float, height: float) -> Means:
    """Of the squares of a patch, (3, 4, 4), 0 to 1, of an area at a place of `pixels`, which hold it."""
    box = (x % 1, y % 1, x % 1 + width, y % 1 + height)
    image = Image.fromarray(pixels).resize((PATCH_PX, PATCH_PX), Image.Resampling.BILINEAR, box=box)
    squares = np.asarray(image, np.float64).reshape(PATCH_PX // BLOCK_PX, BLOCK_PX, PATCH_PX // BLOCK_PX, BLOCK_PX, 3)
    return np.asarray(squares.mean(axis=(1, 3)).transpose(2, 0, 1) / 255)


def of_original(original: Original, x: float, y: float, width: float, height: float) -> Pixels:
    """The sound slide's pixels around an area, white outside."""
    left, top = math.floor(x), math.floor(y)
    out = np.full((math.ceil(y + height) - top, math.ceil(x + width) - left, 3), WHITE, np.uint8)
    part = original.pixels[top : top + out.shape[0], left : left + out.shape[1]]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def is_near(found: Means, expected: Means) -> bool:
    """Whether all squares are, but for how decoders round."""
    return bool(np.abs(found - expected).max() <= NEAR)
