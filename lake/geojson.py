"""GeoJSON as QuPath 0.4 and newer read it: objects with class, measurements and metadata, in level-0 pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid5

import shapely
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from lake.files import replacing
from lake.heatmap_frame import BANNER

NAMESPACE = UUID("5d0f6a1e-6f3c-5b0e-9a53-6c4f8a9b7d21")  # of our objects' ids
COMPACT = (",", ":")


@dataclass(frozen=True)
class Class:
    """A classification as QuPath shows it: a name, and a color as (red, green, blue)."""

    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class PathObject:
    """What QuPath calls an object: a geometry (level-0 pixels), and what is known of it.

    key: what tells it from all others; the same key gives the same id, so that a second import can be told.
    """

    key: tuple[object, ...]
    geometry: BaseGeometry
    kind: Literal["annotation", "detection", "tile"]
    name: str | None = None
    classification: Class | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def write_geojson(path: Path, objects: Iterable[PathObject], about: Mapping[str, Any]) -> int:
    """Write a FeatureCollection, an object a line; returns how many.

    Format: RFC 7946, but for coordinates, which are level-0 pixels as QuPath's are; `about` and the banner are its
    foreign member `histolake`. Rings are closed, and exterior ones run counter-clockwise in (x, y).
    Raises HistolakeError when the file cannot be written.
    """
    count = 0
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        head = json.dumps({**about, "notice": BANNER}, ensure_ascii=False)
        file.write(f'{{"type":"FeatureCollection","histolake":{head},"features":[')
        for each in objects:
            line = json.dumps(_feature(each), ensure_ascii=False, allow_nan=False, separators=COMPACT)
            file.write(f"{',' if count else ''}\n{line}")
            count += 1
        file.write("\n]}\n")
    return count


def _feature(each: PathObject) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": each.kind}
    if each.name is not None:
        properties["name"] = each.name
    if each.classification is not None:
        properties["classification"] = {"name": each.classification.name, "color": each.classification.color}
    if each.measurements:
        properties["measurements"] = each.measurements
    if each.metadata:
        properties["metadata"] = each.metadata
    return {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE, json.dumps(each.key))),
        "geometry": mapping(_oriented(each.geometry)),
        "properties": properties,
    }


def _oriented(geometry: BaseGeometry) -> BaseGeometry:
    if isinstance(geometry, shapely.Polygon):
        return orient(geometry)
    if isinstance(geometry, shapely.MultiPolygon):
        return shapely.MultiPolygon([orient(part) for part in geometry.geoms])
    return geometry
