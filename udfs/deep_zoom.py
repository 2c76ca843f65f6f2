"""The pyramid of tiles that deep-zoom viewers ask for: Microsoft's Deep Zoom, laid out as OpenSlide does it.

Level `levels - 1` has the area's own pixels; each before it half as many along each axis, down to level 0 of one
pixel. Sizes are (width, height), addresses (column, row).
"""

from __future__ import annotations

from dataclasses import dataclass

from udfs.errors import TileError
from udfs.slide import Area, Pixels, read_area

TILE_PX = 254  # with the overlap 256: the edge of most files' own tiles
OVERLAP_PX = 1  # px that a tile repeats of each of its neighbours


@dataclass(frozen=True)
class DeepZoom:
    """The tiles over an area of a slide, level-0 px, whose edges are whole numbers."""

    area: Area

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return (max(int(self.area.width), int(self.area.height)) - 1).bit_length() + 1

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level, px."""
        scale = self._scale(level)
        return -(-int(self.area.width) // scale), -(-int(self.area.height) // scale)

    def grid(self, level: int) -> tuple[int, int]:
        """Columns and rows of tiles of a level."""
        width, height = self.size(level)
        return -(-width // TILE_PX), -(-height // TILE_PX)

    def tile(self, level: int, column: int, row: int) -> tuple[Area, tuple[int, int]]:
        """What a tile shows, level-0 px, and its size in px.

        A pixel is 2^n level-0 px wide and high, the last of a row too, which may reach beyond the area.
        Raises TileError when there is no such tile.
        """
        if not 0 <= level < self.levels:
            raise TileError(f"there is no level {level}; there are 0 to {self.levels - 1}")
        columns, rows = self.grid(level)
        if not (0 <= column < columns and 0 <= row < rows):
            raise TileError(f"level {level} has no tile {column}_{row}; it has {columns} columns and {rows} rows")
        scale, (width, height) = self._scale(level), self.size(level)
        left, right = _extent(column, width)
        top, bottom = _extent(row, height)
        area = Area(
            self.area.x + left * scale, self.area.y + top * scale, (right - left) * scale, (bottom - top) * scale
        )
        return area, (right - left, bottom - top)

    def _scale(self, level: int) -> int:
        return 1 << (self.levels - 1 - level)


def _extent(index: int, length: int) -> tuple[int, int]:
    """Where a tile starts and ends along an axis of a level of that length, px, with its overlaps."""
    return max(0, index * TILE_PX - OVERLAP_PX), min((index + 1) * TILE_PX + OVERLAP_PX, length)


def read_tile(path: str, whole: Area, level: int, column: int, row: int) -> Pixels:
    """A tile of the pyramid over the area `whole`, RGB, shape (height, width, 3); white where nothing was scanned.

    Raises TileError when there is no such tile, SlideError naming slide and area when it cannot be read.
    """
    area, (width, height) = DeepZoom(whole).tile(level, column, row)
    return read_area(path, area, width, height)


def read_thumbnail(path: str, whole: Area, longest_px: int) -> Pixels:
    """The area `whole` with its longer side of `longest_px`, or as it is where it is smaller; RGB as `read_tile`.

    Raises SlideError naming the slide when it cannot be read.
    """
    scale = max(1.0, whole.width / longest_px, whole.height / longest_px)
    return read_area(path, whole, max(1, round(whole.width / scale)), max(1, round(whole.height / scale)))
