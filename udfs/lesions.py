"""Camelyon16's lesions: what counts as one, which are isolated tumor cells, and what a detection hits.

Source: the challenge's evaluation script, Evaluation_FROC.py, by B. Ehteshami Bejnordi; see docs/evaluation.md.
It builds a mask of the slide at level 5; here the outlines themselves are grown and measured.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from udfs.errors import AnnotationError
from udfs.geometry import numbers_of, shapes_of
from udfs.registry import Column, udf

GROWN_UM = 75 / 2  # annotations grow by this much on every side: what comes to touch is one lesion
ITC_UM = 275.0  # a lesion whose major axis, after growing, is shorter than this is isolated tumor cells
ARC = 16  # segments of a quarter circle of the grown outline: off by less than 0.05 microns

LESION = pa.struct(
    [("number", pa.int32()), ("geometry", pa.binary()), ("major_axis_um", pa.float64()), ("is_itc", pa.bool_())]
)


@udf(
    "BLOB",
    "DOUBLE",
    "DOUBLE",
    returns="STRUCT(number INTEGER, geometry BLOB, major_axis_um DOUBLE, is_itc BOOLEAN)[]",
)
def lesions(area: Column, mpp_x: Column, mpp_y: Column) -> pa.Array:
    """The lesions that each area of tumor (WKB, level-0 pixels) makes up, numbered from 1, top to bottom.

    mpp_x, mpp_y: microns per level-0 pixel. As the Camelyon16 challenge defines them: the area is grown by 37.5
    microns, holes are filled, and every connected region is a lesion; geometry is its grown outline (WKB, level-0
    pixels). Its major axis is that of the ellipse with the same second moments, microns; below 275 the lesion is
    isolated tumor cells (is_itc), which count neither as found nor as missed. NULL where an argument is.
    Raises AnnotationError when a resolution is not above 0.
    """
    found: list[list[dict[str, object]] | None] = []
    for shape, *mpp in zip(shapes_of(area.to_pylist()), mpp_x.to_pylist(), mpp_y.to_pylist(), strict=True):
        found.append(None if shape is None or None in mpp else _lesions(shape, np.array(mpp, np.float64)))
    return pa.array(found, pa.list_(LESION))


def _lesions(area: shapely.Geometry, mpp: NDArray[np.float64]) -> list[dict[str, object]]:
    if not (mpp > 0).all():
        raise AnnotationError(f"{mpp[0]:g} x {mpp[1]:g} microns per pixel: a resolution must be above 0")
    grown = shapely.buffer(shapely.transform(area, lambda xy: xy * mpp), GROWN_UM, quad_segs=ARC)
    outer = shapely.polygons(shapely.get_exterior_ring(shapely.get_parts(grown)))
    regions = shapely.get_parts(shapely.union_all(outer))  # what lay in a filled hole is part of it
    bounds = shapely.bounds(regions)
    regions = regions[np.lexsort((bounds[:, 0], bounds[:, 1]))]
    outlines = shapely.to_wkb(shapely.transform(regions, lambda xy: xy / mpp))
    axes = [major_axis(region) for region in regions]
    return [
        {"number": number, "geometry": outline, "major_axis_um": axis, "is_itc": axis < ITC_UM}
        for number, (outline, axis) in enumerate(zip(outlines, axes, strict=True), start=1)
    ]


def major_axis(region: shapely.Polygon) -> float:
    """Length of the major axis of the ellipse with the region's second central moments; its holes are not looked at.

    As scikit-image's axis_major_length: four times the root of the larger eigenvalue. The moments are integrals
    over the outline by Green's theorem.
    """
    ring = shapely.get_coordinates(shapely.get_exterior_ring(region))
    ring = ring - ring.mean(axis=0)  # large coordinates would cancel each other's digits
    (x, y), (u, v) = ring[:-1].T, ring[1:].T
    cross = x * v - u * y
    area = cross.sum() / 2
    mean_x, mean_y = ((x + u) * cross).sum() / (6 * area), ((y + v) * cross).sum() / (6 * area)
    xx = ((x * x + x * u + u * u) * cross).sum() / (12 * area) - mean_x**2
    yy = ((y * y + y * v + v * v) * cross).sum() / (12 * area) - mean_y**2
    xy = ((2 * (x * y + u * v) + x * v + u * y) * cross).sum() / (24 * area) - mean_x * mean_y
    return float(4 * np.sqrt((xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)))


@udf("BLOB[]", "DOUBLE[]", "DOUBLE[]", returns="INTEGER[]")
def lesions_hit(outlines: Column, x: Column, y: Column) -> pa.Array:
    """The position, from 1, of the outline (WKB) that each point (x, y) lies in; 0 for none, and where there are none.

    Outlines do not overlap. All in level-0 pixels. A point on an outline is not inside. NULL where x or y is.
    """
    hits: list[list[int | None] | None] = []
    for blobs, *lists in zip(outlines.to_pylist(), x.to_pylist(), y.to_pylist(), strict=True):
        if None in lists:
            hits.append(None)
            continue
        xs, ys = numbers_of(lists)
        shapes = shapes_of(blobs or [])
        inside, points = shapely.STRtree(shapely.points(xs, ys)).query(shapes, predicate="contains")
        numbers = np.zeros(len(xs), np.int32)
        numbers[points] = inside + 1
        hits.append(pa.array(numbers, mask=np.isnan(xs) | np.isnan(ys)).to_pylist())
    return pa.array(hits, pa.list_(pa.int32()))
