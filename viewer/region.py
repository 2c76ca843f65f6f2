"""Which part of a slide is on view: a center and a magnification, as the page's sliders set them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from udfs.slide import Area

SMALLEST_PX = 256  # level-0 pixels: no region is narrower
HOTSPOT_SPANS = 3  # patches at least across the region that a hotspot is shown in


def scanned_area(slide: Mapping[str, Any]) -> Area:
    """The area of the slide that was scanned, level-0 pixels."""
    return Area(slide["left_edge"], slide["top_edge"], slide["width"], slide["height"])


def magnifications(whole: Area) -> list[int]:
    """Powers of 2 by which the slide can be magnified, from 1."""
    shorter = min(whole.width, whole.height)
    return [2**power for power in range(16) if power == 0 or shorter / 2**power >= SMALLEST_PX]


def region_around(whole: Area, center_x: float, center_y: float, magnification: int) -> Area:
    """The region of the slide's own shape around a center, moved so that it stays on the slide."""
    width, height = whole.width / magnification, whole.height / magnification
    x = min(max(center_x - width / 2, whole.x), whole.x + whole.width - width)
    y = min(max(center_y - height / 2, whole.y), whole.y + whole.height - height)
    return Area(x, y, width, height)


def magnification_for(whole: Area, span: float) -> int:
    """The strongest magnification that still shows several patches of that span around one."""
    shorter = min(whole.width, whole.height)
    return max(m for m in magnifications(whole) if m == 1 or shorter / m >= HOTSPOT_SPANS * span)
