"""Rectangles of a slide, as those who ask for pixels and the process that reads them speak of them.

Coordinates are level-0 pixels, (x, y) from the top-left corner; sizes are (width, height).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
FileState = tuple[str, int, int, int]
"""A file, its inode, time and size: another when the file is replaced or written to."""

LONGEST = 2**22  # level-0 px, more than any slide's edge
MOST_PIXELS = 2**28  # of one result


@dataclass(frozen=True)
class Area:
    """A rectangle of a slide: top-left corner and size in level-0 pixels, fractions allowed."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Cut:
    """An area, and the width and height, px, that it is resampled to."""

    area: Area
    width: int
    height: int

    @property
    def bytes(self) -> int:
        """Of its pixels, RGB."""
        return 3 * self.width * self.height

    @property
    def is_sensible(self) -> bool:
        """Whether a slide can have the area; false for NaN too."""
        area = self.area
        return (
            all(-LONGEST < at < LONGEST for at in (area.x, area.y))
            and all(0 < length < LONGEST for length in (area.width, area.height))
            and self.width >= 1
            and self.height >= 1
            and self.width * self.height <= MOST_PIXELS
        )

    def __str__(self) -> str:
        return f"{self.area.width:g} x {self.area.height:g} px at ({self.area.x:g}, {self.area.y:g})"
