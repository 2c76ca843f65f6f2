"""Annotation polygons against patches. Geometries are WKB, level-0 pixels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely

from udfs.registry import Column, udf


@udf("BLOB[]", "BOOLEAN[]", returns="BLOB")
def annotated_area(geometries: Column, is_exclusion: Column) -> pa.Array:
    """The union of each list's geometries less the union of those that are exclusions."""
    areas = []
    for blobs, flags in zip(geometries.to_pylist(), is_exclusion.to_pylist(), strict=True):
        shapes, excluded = shapely.from_wkb(np.array(blobs, object)), np.array(flags, bool)
        union = shapely.union_all(shapes[~excluded])
        areas.append(shapely.to_wkb(shapely.difference(union, shapely.union_all(shapes[excluded]))))
    return pa.array(areas, pa.binary())


@udf("BLOB", "DOUBLE[]", "DOUBLE[]", returns="BOOLEAN[]")
def contains_points(area: Column, x: Column, y: Column) -> pa.Array:
    """Whether each area contains each point (x, y) of its lists, level-0 pixels; False where the area is NULL."""
    inside = []
    for blob, xs, ys in zip(area.to_pylist(), x, y, strict=True):
        shape = shapely.from_wkb(blob) if blob is not None else shapely.Polygon()
        shapely.prepare(shape)
        inside.append(shapely.contains_xy(shape, xs.values.to_numpy(), ys.values.to_numpy()))
    return pa.array(inside, pa.list_(pa.bool_()))


@udf("BLOB", "DOUBLE[]", "DOUBLE[]", "DOUBLE[]", "DOUBLE[]", returns="DOUBLE[]")
def covered_fractions(area: Column, x: Column, y: Column, span_x: Column, span_y: Column) -> pa.Array:
    """The fraction, 0 to 1, of each rectangle that each area covers; 0 where the area is NULL.

    x, y: top-left corners; span_x, span_y: sizes, level-0 pixels.
    """
    fractions = []
    for blob, *lists in zip(area.to_pylist(), x, y, span_x, span_y, strict=True):
        left, top, width, height = (values.values.to_numpy() for values in lists)
        squares = shapely.box(left, top, left + width, top + height)
        covered = np.zeros(len(squares))
        if blob is not None:
            shape = shapely.from_wkb(blob)
            shapely.prepare(shape)
            covered[shapely.contains(shape, squares)] = 1
            cut = shapely.intersects(shape, squares) & (covered == 0)
            covered[cut] = shapely.area(shapely.intersection(shape, squares[cut])) / (width[cut] * height[cut])
        fractions.append(covered)
    return pa.array(fractions, pa.list_(pa.float64()))


@udf("BLOB", returns="DOUBLE[]")
def bounding_box(geometry: Column) -> pa.Array:
    """[x, y, width, height] of each geometry's bounding box, level-0 pixels; NULL for an empty one."""
    boxes = []
    for left, top, right, bottom in shapely.bounds(shapely.from_wkb(np.array(geometry.to_pylist(), object))):
        boxes.append(None if np.isnan(left) else [left, top, right - left, bottom - top])
    return pa.array(boxes, pa.list_(pa.float64()))


@udf("BLOB", returns="STRUCT(x DOUBLE, y DOUBLE)")
def point(geometry: Column) -> pa.Array:
    """x and y of each point, level-0 pixels; NULL for a geometry that is not a point."""
    shapes = shapely.from_wkb(np.array(geometry.to_pylist(), object))
    return pa.array(
        [{"x": shape.x, "y": shape.y} if isinstance(shape, shapely.Point) else None for shape in shapes],
        pa.struct([("x", pa.float64()), ("y", pa.float64())]),
    )


@udf("DOUBLE", "DOUBLE", returns="BLOB")
def make_point(x: Column, y: Column) -> pa.Array:
    """The point (x, y), level-0 pixels, as WKB."""
    points = shapely.points(x.to_numpy(zero_copy_only=False), y.to_numpy(zero_copy_only=False))
    return pa.array(shapely.to_wkb(points), pa.binary())
