"""Where things lie on a synthetic slide: tissue, fat and tumor as polygons in level-0 pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

WIDTH, HEIGHT = 4096, 3072  # level-0 pixels
MARGIN = 110  # of glass on every side

TUMOR_RADII = ((620.0,), (400.0, 300.0), (480.0, 190.0))  # level-0 pixels; slides take them in turn


@dataclass(frozen=True)
class Layout:
    """The regions of one slide. Tumors lie inside the tissue and apart from each other and the fat.

    A tumor's holes are what its annotation excludes.
    """

    tissue: BaseGeometry
    fat: BaseGeometry
    tumors: tuple[Polygon, ...]


def draw_layout(rng: np.random.Generator, tumor_index: int | None) -> Layout:
    """Draw the regions of one slide; `tumor_index` counts the tumor slides from 0, None is a normal slide.

    The first tumor slide, and every third after it, has one large tumor with a hole.
    """
    tissue = _draw_tissue(rng)
    tumors: list[Polygon] = []
    radii = () if tumor_index is None else TUMOR_RADII[tumor_index % len(TUMOR_RADII)]
    for radius in radii:
        others = shapely.union_all(tumors).buffer(150)
        room = tissue.buffer(-0.75 * radius).difference(others.buffer(0.75 * radius))
        tumor = _largest(_smooth(_blob(rng, _point_in(rng, room), radius, 0.22).intersection(tissue.buffer(-45))))
        tumors.append(_largest(tumor.difference(others)))
    if tumors and len(radii) == 1:
        hole = _blob(rng, tumors[0].representative_point(), 0.36 * radii[0], 0.15)
        tumors[0] = _largest(tumors[0].difference(hole.intersection(tumors[0].buffer(-60))))
    kept_out = shapely.union_all([Polygon(tumor.exterior) for tumor in tumors]).buffer(90)
    fat = _draw_fat(rng, tissue).difference(kept_out)
    return Layout(tissue, fat.buffer(-60).buffer(60), tuple(tumors))  # no slivers of fat


def _draw_tissue(rng: np.random.Generator) -> BaseGeometry:
    """One piece, or two side by side."""
    if rng.random() < 0.4:
        left = _blob(rng, Point(1330, 1560), 1080, 0.20, aspect=0.92)
        right = _blob(rng, Point(3180, 1500), 720, 0.22, aspect=0.75)
        pieces = shapely.union_all([left, right])
    else:
        middle = Point(rng.uniform(1950, 2150), rng.uniform(1480, 1600))
        pieces = _blob(rng, middle, 1420, 0.24, aspect=1.24)
    return pieces.intersection(_blob(rng, Point(WIDTH / 2, HEIGHT / 2), 1690, 0.03, aspect=1.33)).intersection(
        box(MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN)
    )


def _draw_fat(rng: np.random.Generator, tissue: BaseGeometry) -> BaseGeometry:
    """Lobules of fat at the rim, where a specimen is cut out of its bed."""
    rim = tissue.boundary
    lobules = []
    for _ in range(2):
        where = rim.interpolate(rng.random(), normalized=True)
        lobules.append(_blob(rng, where, rng.uniform(330, 520), 0.25))
    return shapely.union_all(lobules).intersection(tissue.buffer(-6))


def _blob(rng: np.random.Generator, center: Point, radius: float, roughness: float, *, aspect: float = 1.0) -> Polygon:
    """Draw a closed curve whose radius is a sum of harmonics that fall off, so that it is smooth yet irregular."""
    theta = np.linspace(0, 2 * np.pi, max(120, int(radius / 2)), endpoint=False)
    r = np.ones_like(theta)
    for harmonic in range(2, 24):
        weight = roughness * rng.normal() / harmonic**1.35
        r += weight * np.cos(harmonic * theta + rng.uniform(0, 2 * np.pi))
    r = np.maximum(r, 0.3) * radius
    return Polygon(
        np.column_stack([center.x + r * np.cos(theta) * aspect**0.5, center.y + r * np.sin(theta) / aspect**0.5])
    )


def _smooth(shape: BaseGeometry) -> BaseGeometry:
    """Round the corners that an intersection leaves."""
    return shape.buffer(-25).buffer(50).buffer(-25)


def _largest(shape: BaseGeometry) -> Polygon:
    pieces = shape.geoms if isinstance(shape, MultiPolygon) else [shape]
    return max((piece for piece in pieces if isinstance(piece, Polygon)), key=lambda piece: piece.area)


def _point_in(rng: np.random.Generator, room: BaseGeometry) -> Point:
    left, top, right, bottom = room.bounds
    while True:
        point = Point(rng.uniform(left, right), rng.uniform(top, bottom))
        if room.contains(point):
            return point
