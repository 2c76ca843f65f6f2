"""Painting a synthetic slide: how much hematoxylin and eosin lies where, then their colors.

Textures are computed on a field of one pixel a micron, half of level 0, and enlarged; nuclei are
stamped at level 0. Colors follow the Beer-Lambert law: each stain darkens by its own spectrum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from lake import synthetic_nuclei as nuclei
from lake.synthetic_layout import HEIGHT, WIDTH, Layout
from lake.synthetic_nuclei import Field, Points

SCALE = 2  # level-0 pixels in one pixel of a field
SHAPE = (HEIGHT // SCALE, WIDTH // SCALE)

HEMATOXYLIN = (0.66, 0.72, 0.28)  # optical density of red, green, blue; near Ruifrok and Johnston 2001
EOSIN = (0.09, 0.92, 0.36)
GLASS = 244.0
STRIP = 128  # rows that are stained at once


def paint(rng: np.random.Generator, layout: Layout) -> NDArray[np.uint8]:
    """Paint the slide; RGB, shape (HEIGHT, WIDTH, 3)."""
    tissue = _mask(layout.tissue)
    tumor = _mask(*layout.tumors)
    fat = _mask(layout.fat)
    normal = tissue * (1 - tumor) * (1 - fat)
    hematoxylin, eosin, fiber_angle = _paint_stroma(rng)
    follicles = _paint_follicles(rng, normal, hematoxylin, eosin)
    glands, gland_cells = _paint_glands(rng, normal * (follicles < 0.05), hematoxylin, eosin)
    nests = _paint_nests(rng, hematoxylin, eosin, tumor)
    _paint_fat(rng, layout.fat, fat, hematoxylin, eosin)
    whole = tissue * _tears(rng, tissue)
    levels = [_enlarge(field * whole) for field in (hematoxylin, eosin)]
    stroma = whole * (1 - fat) * (1 - nests) * (1 - follicles) * (1 - glands)
    _stamp_cells(rng, (levels[0], levels[1]), stroma, follicles * whole, nests * whole, gland_cells, fiber_angle)
    return _stain(rng, levels[0], levels[1])


def _mask(*shapes: BaseGeometry) -> Field:
    """Fraction of each field pixel that the shapes cover, holes left out."""
    image = Image.new("L", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        for piece in getattr(shape, "geoms", [shape]):
            if not isinstance(piece, Polygon) or piece.is_empty:
                continue
            draw.polygon([(x - 0.5, y - 0.5) for x, y in piece.exterior.coords], fill=255)
            for hole in piece.interiors:
                draw.polygon([(x - 0.5, y - 0.5) for x, y in hole.coords], fill=0)
    return np.asarray(np.asarray(image.reduce(SCALE)) / 255, np.float32)


def _noise(rng: np.random.Generator, size: float, shape: tuple[int, int] = SHAPE) -> Field:
    """Smooth noise whose bumps are about `size` microns; mean 0, standard deviation about 1."""
    small = (int(shape[0] / size) + 3, int(shape[1] / size) + 3)
    grid = Image.fromarray(rng.standard_normal(small, np.float32))
    shift = rng.uniform(0, 1, 2)
    window = (shift[0], shift[1], shift[0] + shape[1] / size, shift[1] + shape[0] / size)
    field = np.asarray(grid.resize(shape[::-1], Image.Resampling.BICUBIC, box=window))
    return np.asarray(field * 1.35, np.float32)


def _step(field: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _paint_stroma(rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Wavy bundles of collagen with clefts between them; also their direction, radians."""
    theta = rng.uniform(0, np.pi)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
    phase = x * np.cos(theta) + y * np.sin(theta) + 110 * _noise(rng, 330) + 22 * _noise(rng, 90) + 3 * _noise(rng, 21)
    slope_y, slope_x = np.gradient(phase[::8, ::8])
    angle = np.arctan2(slope_y, slope_x) + np.pi / 2
    fine = np.sin(phase * (2 * np.pi / 6.5) + 2.0 * _noise(rng, 30))
    coarse = np.sin(phase * (2 * np.pi / 31) + 2.5 * _noise(rng, 75))
    loose = _noise(rng, 120)
    grain = _noise(rng, 2.2)
    eosin = 0.47 + 0.035 * fine + 0.10 * coarse + 0.07 * _noise(rng, 9) + 0.05 * grain
    clefts = _step(coarse + 0.55 * loose + 0.35 * _noise(rng, 14), 1.05, 1.5)
    eosin *= 1 - 0.82 * clefts
    hematoxylin = np.float32(0.05) * (1 - clefts) + 0.012 * grain * (1 - clefts)
    enlarged = np.kron(angle, np.ones((8, 8), np.float32))[: SHAPE[0], : SHAPE[1]]
    return np.maximum(hematoxylin, 0), np.maximum(eosin, 0), np.asarray(enlarged, np.float32)


def _paint_follicles(rng: np.random.Generator, room: Field, hematoxylin: Field, eosin: Field) -> Field:
    """Lymphoid follicles with a paler germinal center; returns the density of lymphocytes, 0 to 1."""
    density = np.zeros(SHAPE, np.float32)
    wobble = _noise(rng, 45)
    for x, y in _centers(rng, room, count=int(rng.integers(3, 7)), clearance=150):
        radius = rng.uniform(75, 170)
        window, distance = _around(x, y, radius * 1.6)
        distance = distance + 0.10 * radius * wobble[window]
        mantle = 1 - _step(distance, radius * 0.80, radius * 1.15)
        germinal = 1 - _step(distance, radius * 0.35, radius * 0.55)
        density[window] = np.maximum(density[window], mantle * (1 - 0.6 * germinal))
        hematoxylin[window] += (0.13 - 0.03 * germinal) * mantle
        eosin[window] *= 1 - 0.30 * mantle
    return density * room


def _paint_glands(rng: np.random.Generator, room: Field, hematoxylin: Field, eosin: Field) -> tuple[Field, Points]:
    """Round glands, a pale lumen in a ring of epithelium; returns where they are, and their nuclei at level 0."""
    glands = np.zeros(SHAPE, np.float32)
    cells = [np.empty((0, 2))]
    for x, y in _centers(rng, room, count=int(rng.integers(16, 34)), clearance=55):
        radius = rng.uniform(24, 46)
        lobes, depth, phase = int(rng.integers(2, 4)), rng.uniform(0.03, 0.13), rng.uniform(0, 2 * np.pi)
        window, distance = _around(x, y, radius * 1.7)
        rows, columns = np.mgrid[window].astype(np.float32)
        theta = np.arctan2(rows - y, columns - x)
        ratio = distance / (radius * (1 + depth * np.cos(lobes * theta + phase)))
        epithelium = 1 - _step(ratio, 0.97, 1.05)
        glands[window] = np.maximum(glands[window], 1 - _step(ratio, 1.15, 1.2))
        lumen = 1 - _step(ratio, 0.42, 0.52)
        halo = np.exp(-(((ratio - 1.14) / 0.06) ** 2))
        for field, value in ((hematoxylin, 0.15), (eosin, 0.40)):
            field[window] += epithelium * (value - field[window])
            field[window] *= (1 - 0.9 * lumen) * (1 - 0.6 * halo)
        around = np.arange(0, 2 * np.pi, 7.8 / (0.82 * radius))
        at = radius * (1 + depth * np.cos(lobes * around + phase)) * rng.normal(0.82, 0.035, len(around))
        cells.append(SCALE * np.column_stack([x + at * np.cos(around), y + at * np.sin(around)]))
    return glands, np.concatenate(cells)


def _paint_nests(rng: np.random.Generator, hematoxylin: Field, eosin: Field, tumor: Field) -> Field:
    """Nests of tumor cells between thin septa, some drawn back from the stroma; returns where they are."""
    texture = _noise(rng, 62) + 0.45 * _noise(rng, 24)
    nests = _step(texture, -1.50, -1.38) * tumor
    retraction = np.exp(-(((texture + 1.56) / 0.07) ** 2)) * tumor * _step(_noise(rng, 160), -0.2, 0.6)
    cytoplasm = 0.21 + 0.05 * _noise(rng, 90) + 0.05 * _noise(rng, 6) + 0.03 * _noise(rng, 2.2)
    hematoxylin += nests * (cytoplasm - hematoxylin)
    eosin += nests * (0.42 + 0.06 * _noise(rng, 11) - eosin)
    for field in (hematoxylin, eosin):
        field *= 1 - 0.75 * retraction
    return np.asarray(nests, np.float32)


def _paint_fat(rng: np.random.Generator, shape: BaseGeometry, fat: Field, hematoxylin: Field, eosin: Field) -> None:
    """Empty cells with thin walls: the wall is where the two nearest cell centers are equally near."""
    if shape.is_empty:
        return
    left, top, right, bottom = (int(edge / SCALE) for edge in shape.bounds)
    window = np.s_[top : bottom + 1, left : right + 1]
    rows, columns = fat[window].shape
    spacing = 46.0
    grid_y, grid_x = np.mgrid[-1 : rows / spacing + 1, -1 : columns / spacing + 1]
    grid_x = grid_x + 0.5 * (np.arange(grid_x.shape[0]) % 2)[:, None]
    centers = np.column_stack([grid_x.ravel(), grid_y.ravel()]) + rng.uniform(-0.3, 0.3, (grid_x.size, 2))
    at = np.mgrid[0:rows, 0:columns].reshape(2, -1)[::-1].T
    near, _ = cKDTree(centers * spacing).query(at, k=2, workers=1)
    gap = (near[:, 1] - near[:, 0]).reshape(rows, columns).astype(np.float32) + 0.8 * _noise(rng, 9, (rows, columns))
    wall = 1 - _step(gap, 1.6, 4.2)
    inside = fat[window]
    for field, amount in ((hematoxylin, 0.05), (eosin, 0.42)):
        field[window] += inside * (wall * amount + 0.004 - field[window])


def _tears(rng: np.random.Generator, tissue: Field) -> Field:
    """1 where tissue is whole, 0 in the few thin cracks of a section, softer at its rim."""
    course = _noise(rng, 420) + 0.10 * _noise(rng, 40)
    width = 0.016 * _step(_noise(rng, 260), 0.55, 1.6)
    cracks = np.abs(course) < width
    worn = _step(ndimage.gaussian_filter(tissue, 7) + 0.10 * _noise(rng, 8), 0.42, 0.60)
    return np.asarray((1 - ndimage.gaussian_filter(cracks.astype(np.float32), 0.8)) * worn, np.float32)


def _stamp_cells(
    rng: np.random.Generator,
    stains: tuple[Field, Field],
    stroma: Field,
    follicles: Field,
    nests: Field,
    gland_cells: Points,
    fiber_angle: Field,
) -> None:
    def stamp(kind: nuclei.Kind, points: Points) -> None:
        nuclei.stamp(*stains, nuclei.draw_bank(rng, kind), points, rng.integers(0, nuclei.VARIANTS, len(points)))

    crowd = 0.10 + 0.25 * _step(_noise(rng, 130), 0.5, 1.6)
    spindles = nuclei.scatter(rng, 0.55 * stroma, 44, SCALE)
    angle = nuclei.sample(fiber_angle, spindles, SCALE) % np.pi
    variants = np.rint(angle / np.pi * nuclei.ANGLES).astype(np.int64) % nuclei.ANGLES
    variants += nuclei.ANGLES * rng.integers(0, nuclei.VARIANTS // nuclei.ANGLES, len(spindles))
    nuclei.stamp(*stains, nuclei.draw_spindles(rng, nuclei.FIBROBLAST), spindles, variants)
    stamp(nuclei.LYMPHOCYTE, nuclei.scatter(rng, stroma * crowd, 30, SCALE))
    stamp(nuclei.LYMPHOCYTE, nuclei.scatter(rng, 0.97 * follicles, 13.5, SCALE))
    stamp(nuclei.EPITHELIAL, gland_cells)
    stamp(nuclei.TUMOR, nuclei.scatter(rng, 0.93 * (nests > 0.9), rng.uniform(23, 27), SCALE))


def _stain(rng: np.random.Generator, hematoxylin: Field, eosin: Field) -> NDArray[np.uint8]:
    """Colors of the two stains, with this slide's strength, hue and thickness and the scanner's noise."""
    strength = rng.uniform(0.78, 1.22), rng.uniform(0.75, 1.25)
    hue = rng.uniform(0.94, 1.06, (2, 3)).astype(np.float32)
    thickness = _enlarge(1 + 0.07 * _noise(rng, 380))
    grain = 0.012 * rng.standard_normal((STRIP, WIDTH), np.float32)
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for top in range(0, HEIGHT, STRIP):  # whole planes would leave the processor's caches at every step
        strip = np.s_[top : top + STRIP]
        for channel in range(3):
            density = hematoxylin[strip] * (HEMATOXYLIN[channel] * strength[0] * hue[0, channel])
            density += eosin[strip] * (EOSIN[channel] * strength[1] * hue[1, channel])
            density *= thickness[strip]
            density += grain
            image[strip, :, channel] = np.clip(GLASS * np.exp(-density), 0, 255)
    return image


def _enlarge(field: Field) -> Field:
    return np.array(Image.fromarray(field).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def _centers(rng: np.random.Generator, room: Field, *, count: int, clearance: int) -> list[tuple[int, int]]:
    """At most `count` places (x, y), in field pixels, whose surroundings are mostly `room`, apart from each other."""
    free = ndimage.uniform_filter(room[::8, ::8], 2 * clearance // 8, mode="constant") > 0.93
    places: list[tuple[int, int]] = []
    candidates = np.argwhere(free) * 8
    for row, column in rng.permutation(candidates)[: 40 * count].tolist():
        if all((column - x) ** 2 + (row - y) ** 2 > (2 * clearance) ** 2 for x, y in places):
            places.append((column, row))
        if len(places) == count:
            break
    return places


def _around(x: int, y: int, reach: float) -> tuple[tuple[slice, slice], Field]:
    """Find the part of a field within `reach` of (x, y), and the distance of its pixels from there."""
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    bottom, right = min(SHAPE[0], int(y + reach)), min(SHAPE[1], int(x + reach))
    rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
    return np.s_[top:bottom, left:right], np.hypot(columns - x, rows - y)
