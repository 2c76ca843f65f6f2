"""Tells outlines that cross themselves nearly everywhere: GEOS would take hours over them, and all memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

FEW = 64  # corners; so few are quickly mended however they lie
NEAR = 300, 5_000_000, 8  # edges whose boxes overlap an edge's, itself included: on average, at most, and in all,
TOUCHING = 10, 5_000_000, 4  # and edges that touch it; so many on average, as sound outlines have, however many edges
AT_ONCE = 5_000_000  # pairs of edges looked at together

Edges = NDArray[np.object_]


def edges_of(shapes: Sequence[BaseGeometry | None] | Edges) -> Edges:
    """The edges of all polygons among the geometries, as lines."""
    rings = shapely.get_rings(shapely.get_parts(shapes))
    corners, of_ring = shapely.get_coordinates(rings, return_index=True)
    is_edge = of_ring[1:] == of_ring[:-1]
    return np.asarray(shapely.linestrings(np.stack([corners[:-1], corners[1:]], axis=1)[is_edge]), object)


def edges(rings: Sequence[Sequence[tuple[float, float]]]) -> Edges:
    """The edges of closed rings of two corners or more, as lines."""
    corners = [np.array(ring) for ring in rings if len(ring) > 1]
    lines = [shapely.linestrings(np.stack([each, np.roll(each, -1, axis=0)], axis=1)) for each in corners]
    return np.concatenate(lines) if lines else np.empty(0, object)


def is_crowded(lines: Edges) -> bool:
    """Whether the edges' boxes overlap so often that comparing them takes a multiple of the time that reading does."""
    return _exceeds(lines, NEAR, None)


def is_tangled(lines: Edges) -> bool:
    """Whether the edges meet so often that mending the outline would take for ever."""
    return _exceeds(lines, TOUCHING, "intersects")


def _exceeds(lines: Edges, allowed: tuple[int, int, int], predicate: str | None) -> bool:
    if len(lines) <= FEW:
        return False
    average, in_all, always = allowed
    most = min(average * len(lines), max(in_all, always * len(lines)))
    tree, found = shapely.STRtree(lines), 0
    at_once = max(1, AT_ONCE // len(lines))
    for start in range(0, len(lines), at_once):
        found += tree.query(lines[start : start + at_once], predicate=predicate).shape[1]
        if found > most:
            return True
    return False
