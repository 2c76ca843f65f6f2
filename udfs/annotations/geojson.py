"""Reads QuPath's GeoJSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from udfs.annotations.json_file import read_json, text_of, vertices
from udfs.annotations.shapes import Annotation, Names, Repairs, Ring, annotation, area, ignored, union
from udfs.errors import AnnotationError, quoted

OBJECTS = {  # what QuPath up to 0.2 gave as id, and what later versions give as objectType
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathTileObject": "tile",
    "PathCellObject": "cell",
    "PathRootObject": "root",
    "TMACoreObject": "tma_core",
}
LINES = ("LineString", "MultiLineString")

Json = Mapping[str, Any]


def read_geojson(path: Path) -> Iterator[Annotation]:
    """Annotations of a QuPath GeoJSON file: polygons with their holes as areas, points as points.

    Format: RFC 7946's FeatureCollection, a list of Features or one Feature, coordinates in level-0 pixels, with
    QuPath's properties `objectType`, `name` and `classification` (`{"name": …}`, `{"names": [a, b]}`, which is 'a: b',
    or a text). The polygons of one annotation are one shape. An annotation is called by its name, else by its id;
    names that repeat get a number. Lines are kept without area. QuPath's other objects, its tiles, detections and
    cells, are no annotations: a row without area tells how many there are.
    Raises AnnotationError naming the file and the annotation that cannot be understood.
    """
    names, repairs, others = Names(), Repairs(path), Counter[str]()
    for number, feature in enumerate(_features(path), start=1):
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise AnnotationError(f"{path}: item {number} is not a GeoJSON Feature; export it again from QuPath")
        properties = feature.get("properties") or {}
        if not isinstance(properties, dict):
            raise AnnotationError(f"{path}: feature {number} has properties that are no object; export it again")
        kind = _object_type(feature, properties)
        if kind == "annotation":
            name = names.unique(_name(path, feature, properties))
            yield from _shapes(repairs, name, _group(path, name, properties), feature.get("geometry"), names)
        else:
            others[kind] += 1
    for kind, count in sorted(others.items()):
        yield ignored(names.unique(f"{kind} objects"), None, f"{count:,} of QuPath's {kind} objects, no annotations")


def _features(path: Path) -> list[Any]:
    content = read_json(path)
    kind = content.get("type") if isinstance(content, dict) else None
    features = content.get("features") if kind == "FeatureCollection" else [content] if kind == "Feature" else content
    if not isinstance(features, list):
        raise AnnotationError(f"{path}: not a GeoJSON FeatureCollection, Feature or list; export it from QuPath")
    return features


def _object_type(feature: Json, properties: Json) -> str:
    given = properties.get("objectType") or properties.get("object_type") or feature.get("id")
    if not isinstance(given, str):
        return "annotation"
    return OBJECTS.get(given, given if given in OBJECTS.values() else "annotation")


def _name(path: Path, feature: Json, properties: Json) -> str:
    known_by = text_of(path, feature.get("id") or "")
    return text_of(path, properties.get("name") or (None if known_by in OBJECTS else known_by) or "Annotation")


def _group(path: Path, name: str, properties: Json) -> str | None:
    """The name of the annotation's class; of a class derived from others, all their names."""
    given = properties.get("classification")
    if isinstance(given, dict):
        given = given.get("names") or given.get("name")
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        given = ": ".join(given)
    if not isinstance(given, str | None):
        raise AnnotationError(
            f"{path}: annotation {quoted(name)} has a classification that is no name; export it again"
        )
    return text_of(path, given) if given else None


def _shapes(repairs: Repairs, name: str, group: str | None, geometry: Any, names: Names) -> Iterator[Annotation]:
    polygons, points, has_lines = _parts(repairs.path, name, geometry)
    rows: list[tuple[BaseGeometry, str | None]] = [_area(repairs, name, polygons)] if polygons else []
    rows += [(shapely.Point(point), None) for point in points]
    rows += [(shapely.Polygon(), "is a line: ignored")] if has_lines else []
    rows = rows or [(shapely.Polygon(), "has no geometry: ignored")]
    for each, row in zip(names.series(name, len(rows)), rows, strict=True):
        yield annotation(each, group, *row)


def _parts(path: Path, name: str, geometry: Any) -> tuple[list[list[Ring]], Ring, bool]:
    """The rings of each polygon, the points, and whether there are lines, of a geometry and those inside it."""
    polygons: list[list[Ring]] = []
    points: list[tuple[float, float]] = []
    has_lines, waiting = False, [geometry] if geometry is not None else []
    while waiting:
        each = waiting.pop()
        kind = each.get("type") if isinstance(each, dict) else None
        coordinates = [] if kind is None else each.get("geometries" if kind == "GeometryCollection" else "coordinates")
        if not isinstance(kind, str) or not isinstance(coordinates, list):
            raise AnnotationError(
                f"{path}: annotation {quoted(name)} has no GeoJSON geometry; export it again from QuPath"
            )
        if kind == "GeometryCollection":
            waiting += reversed(coordinates)
        elif kind in ("Point", "MultiPoint"):
            points += vertices(path, name, [coordinates] if kind == "Point" else coordinates)
        elif kind in ("Polygon", "MultiPolygon"):
            for rings in [coordinates] if kind == "Polygon" else coordinates:
                polygons.append([vertices(path, name, ring) for ring in _list(path, name, rings)])
        elif kind in LINES:
            has_lines = True
        else:
            raise AnnotationError(f"{path}: annotation {quoted(name)} is a {quoted(kind)}, which GeoJSON does not know")
    return polygons, points, has_lines


def _list(path: Path, name: str, rings: Any) -> list[Any]:
    if not isinstance(rings, list):
        raise AnnotationError(
            f"{path}: annotation {quoted(name)} has a polygon without rings; export it again from QuPath"
        )
    return rings


def _area(repairs: Repairs, name: str, polygons: list[list[Ring]]) -> tuple[BaseGeometry, str | None]:
    """The union of the polygons, the first ring of each less its holes, and a note of all repairs."""
    areas, notes = [], []
    for outside, *holes in (rings or [[]] for rings in polygons):
        geometry, note = area(repairs, name, outside, holes)
        areas.append(geometry)
        notes += [note] if note else []
    note = "; ".join(dict.fromkeys(notes)) or None
    return union(repairs, name, areas), note
