"""Annotation polygons against patches. Geometries are WKB, level-0 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from udfs.annotations.tangles import edges_of, is_crowded
from udfs.errors import AnnotationError
from udfs.registry import Column, udf

Shapes = NDArray[np.object_]


@udf("BLOB[]", "BOOLEAN[]", returns="BLOB")
def annotated_area(geometries: Column, is_exclusion: Column) -> pa.Array:
    """The union of each list's areas less the union of those that are exclusions; NULL where a list is.

    A geometry that is NULL, a point or a line is left out; one whose is_exclusion is NULL is no exclusion. Invalid
    ones are repaired. Raises AnnotationError for areas that cross each other nearly everywhere.
    """
    areas: list[bytes | None] = []
    for blobs, flags in zip(geometries.to_pylist(), is_exclusion.to_pylist(), strict=True):
        areas.append(None if blobs is None or flags is None else _area(blobs, flags))
    return pa.array(areas, pa.binary())


def _area(blobs: list[bytes | None], flags: list[bool | None]) -> bytes:
    shapes, is_excluded = shapes_of(blobs), np.array([bool(flag) for flag in flags], np.bool_)
    if len(shapes) != len(is_excluded):
        raise AnnotationError(f"{len(shapes)} geometries have {len(is_excluded)} exclusion flags; give one for each")
    shapes[shapely.get_dimensions(shapes) < 2] = None  # points beside areas would have the union be a collection
    if is_crowded(edges_of(shapes)):
        raise AnnotationError("the slide's annotations cross each other all over; draw them again")
    invalid = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)
    shapes[invalid] = shapely.make_valid(shapes[invalid], method="structure", keep_collapsed=False)
    union = shapely.union_all(shapes[~is_excluded])
    return bytes(shapely.to_wkb(shapely.difference(union, shapely.union_all(shapes[is_excluded]))))


@udf("BLOB", "DOUBLE[]", "DOUBLE[]", returns="BOOLEAN[]")
def contains_points(area: Column, x: Column, y: Column) -> pa.Array:
    """Whether each area contains each point (x, y) of its lists, level-0 pixels; False where the area is NULL.

    A point on the outline is not inside. NULL where a list is, and for a point whose x or y is NULL.
    """
    inside: list[list[bool | None] | None] = []
    for shape, *lists in zip(shapes_of(area.to_pylist()), x.to_pylist(), y.to_pylist(), strict=True):
        if None in lists:
            inside.append(None)
            continue
        xs, ys = numbers_of(lists)
        shapely.prepare(shape)
        found = np.zeros(len(xs), np.bool_) if shape is None else shapely.contains_xy(shape, xs, ys)
        inside.append(pa.array(found, mask=np.isnan(xs) | np.isnan(ys)).to_pylist())
    return pa.array(inside, pa.list_(pa.bool_()))


@udf("BLOB", "DOUBLE[]", "DOUBLE[]", "DOUBLE[]", "DOUBLE[]", returns="DOUBLE[]")
def covered_fractions(area: Column, x: Column, y: Column, span_x: Column, span_y: Column) -> pa.Array:
    """The fraction, 0 to 1, of each rectangle that each area covers; 0 where the area is NULL.

    x, y: top-left corners; span_x, span_y: sizes, level-0 pixels. NULL where a list is, and for a
    rectangle with a NULL number or without size.
    """
    fractions: list[list[float | None] | None] = []
    columns = [column.to_pylist() for column in (x, y, span_x, span_y)]
    for shape, *lists in zip(shapes_of(area.to_pylist()), *columns, strict=True):
        if None in lists:
            fractions.append(None)
            continue
        left, top, width, height = numbers_of(lists)
        is_known = np.isfinite([left, top, width, height]).all(axis=0) & (width > 0) & (height > 0)
        covered = np.zeros(len(left))
        if shape is not None:
            rows = np.flatnonzero(is_known)
            squares = shapely.box(left[rows], top[rows], left[rows] + width[rows], top[rows] + height[rows])
            covered[rows] = _covered(shape, squares) / (width[rows] * height[rows])
        fractions.append(pa.array(np.clip(covered, 0, 1), mask=~is_known).to_pylist())
    return pa.array(fractions, pa.list_(pa.float64()))


def _covered(shape: shapely.Geometry, squares: Shapes) -> NDArray[np.float64]:
    """The area of each square, (n,), that `shape` covers: only squares on its outline are cut."""
    shapely.prepare(shape)
    covered = np.where(shapely.contains(shape, squares), shapely.area(squares), 0.0)
    is_cut = shapely.intersects(shape, squares) & (covered == 0)
    covered[is_cut] = shapely.area(shapely.intersection(shape, squares[is_cut]))
    return covered


@udf("BLOB", returns="DOUBLE[]")
def bounding_box(geometry: Column) -> pa.Array:
    """[x, y, width, height] of each geometry's bounding box, level-0 pixels; NULL for an empty one."""
    boxes: list[list[float] | None] = []
    for left, top, right, bottom in shapely.bounds(shapes_of(geometry.to_pylist())).tolist():
        boxes.append(None if left != left else [left, top, right - left, bottom - top])  # NaN: no box
    return pa.array(boxes, pa.list_(pa.float64()))


@udf("BLOB", returns="DOUBLE")
def area_of(geometry: Column) -> pa.Array:
    """Area of each geometry, level-0 square pixels: 0 for points and lines, NULL for NULL."""
    return pa.array(shapely.area(shapes_of(geometry.to_pylist())), pa.float64(), from_pandas=True)  # NaN: no geometry


@udf("BLOB", "BLOB", returns="DOUBLE")
def differing_area(geometry: Column, other: Column) -> pa.Array:
    """Area that lies in one of two geometries and not in the other, level-0 square pixels.

    A NULL is a geometry without area; NULL where both are.
    """
    first, second = shapes_of(geometry.to_pylist()), shapes_of(other.to_pylist())
    is_known = ~(shapely.is_missing(first) & shapely.is_missing(second))
    for shapes in (first, second):
        shapes[shapely.get_dimensions(shapes) < 2] = shapely.Polygon()
    return pa.array(shapely.area(shapely.symmetric_difference(first, second)), pa.float64(), mask=~is_known)


@udf("BLOB", returns="STRUCT(x DOUBLE, y DOUBLE)")
def point(geometry: Column) -> pa.Array:
    """Coordinates x and y of each point, level-0 pixels; NULL for a geometry that is not a point, or an empty one."""
    shapes = shapes_of(geometry.to_pylist())
    shapes[shapely.is_empty(shapes)] = None  # an empty point has no x to ask for
    x, y = shapely.get_x(shapes), shapely.get_y(shapes)
    return pa.StructArray.from_arrays([pa.array(x), pa.array(y)], ["x", "y"], mask=pa.array(np.isnan(x) | np.isnan(y)))


@udf("DOUBLE", "DOUBLE", returns="BLOB")
def make_point(x: Column, y: Column) -> pa.Array:
    """The point (x, y), level-0 pixels, as WKB; NULL where a coordinate is NULL or not finite."""
    xs, ys = (column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in (x, y))
    is_finite = np.isfinite(xs) & np.isfinite(ys)
    return pa.array(shapely.to_wkb(shapely.points(xs, ys)), pa.binary(), mask=~is_finite)


def shapes_of(blobs: Sequence[bytes | None]) -> Shapes:
    """The geometries of WKB, (n,), None where it is. Raises AnnotationError for bytes that are not WKB."""
    try:
        return np.asarray(shapely.from_wkb(np.array(blobs, object)), object).reshape(len(blobs))
    except (shapely.GEOSException, TypeError) as error:
        raise AnnotationError(f"a geometry is not well-known binary ({error}); make it with make_point") from None


def numbers_of(lists: Sequence[Sequence[float | None]]) -> list[NDArray[np.float64]]:
    """The lists as arrays of one length, NaN for NULL. Raises AnnotationError when their lengths differ."""
    if len({len(values) for values in lists}) > 1:
        lengths = ", ".join(str(len(values)) for values in lists)
        raise AnnotationError(f"lists of {lengths} coordinates belong together; give as many of each")
    return [np.array(values, np.float64) for values in lists]
