"""What QuPath reads is what was written: geometry to the last digit, and the members that QuPath knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from lake.geojson import Class, PathObject, write_geojson
from udfs.annotations.geojson import read_geojson
from udfs.errors import HistolakeError

COORDINATES = st.floats(0, 2e5, allow_nan=False).filter(lambda value: value == 0 or value > 1e-6)


@st.composite
def polygons(draw: st.DrawFn) -> shapely.Polygon:
    """A ring of 3 to 12 corners around a centre, with up to three holes around it or beside each other."""
    x, y, size = draw(COORDINATES), draw(COORDINATES), draw(st.floats(1, 5000))
    corners = draw(st.integers(3, 12))
    radii = np.array(draw(st.lists(st.floats(0.5, 1), min_size=corners, max_size=corners)))
    angles = 2 * np.pi * (np.arange(corners) + draw(st.floats(0, 1))) / corners
    ring = np.c_[x + size * radii * np.cos(angles), y + size * radii * np.sin(angles)]
    turned = ring[:: draw(st.sampled_from([1, -1]))]
    holes = [
        [(cx + size * dx / 40, cy + size * dy / 40) for dx, dy in ((0, 0), (1, 0), (1, 1))]
        for cx, cy in [(x + size * k / 15, y) for k in range(draw(st.integers(0, 3)))]
    ]
    polygon = shapely.Polygon(turned, holes)
    return polygon if polygon.is_valid else shapely.Polygon(turned)


@st.composite
def multipolygons(draw: st.DrawFn) -> shapely.MultiPolygon:
    parts = draw(st.lists(polygons(), min_size=2, max_size=4))
    apart = [shapely.transform(part, lambda xy, k=k: xy + np.array([k * 1e6, 0])) for k, part in enumerate(parts)]
    return shapely.MultiPolygon(apart)


points = st.builds(shapely.Point, COORDINATES, COORDINATES)
geometries = st.one_of(polygons(), multipolygons(), points)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def annotation(geometry: BaseGeometry, *key: object) -> PathObject:
    return PathObject(
        key=key, geometry=geometry, kind="annotation", name="Area 1 µ", classification=Class("a", (1, 2, 3))
    )


def test_any_geometry_is_read_back_to_the_last_digit(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("geojson") / "x.geojson"

    @settings(deadline=None, max_examples=50)
    @given(st.lists(geometries, max_size=5))
    def check(shapes: list[BaseGeometry]) -> None:
        assert write_geojson(path, [annotation(each, k) for k, each in enumerate(shapes)], {}) == len(shapes)
        back = [shape(feature["geometry"]) for feature in read(path)["features"]]
        assert [each.geom_type for each in back] == [each.geom_type for each in shapes]
        assert [each.normalize() for each in back] == [each.normalize() for each in shapes]

    check()


def test_our_own_reader_finds_the_same_geometry_and_classes(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("geojson") / "x.geojson"

    @settings(deadline=None, max_examples=50)
    @given(st.lists(geometries, max_size=4))
    def check(shapes: list[BaseGeometry]) -> None:
        classes = [None, Class("Tumor", (1, 2, 3)), Class("a: b", (1, 2, 3)), Class("_2", (1, 2, 3))][: len(shapes)]
        objects = [
            PathObject(key=(k,), geometry=each, kind="annotation", name=f"area {k}", classification=classes[k])
            for k, each in enumerate(shapes)
        ]
        tile = PathObject(key=(), geometry=shapely.box(0, 0, 9, 9), kind="tile")
        write_geojson(path, [*objects, tile], {})
        *read_back, ignored = read_geojson(path)
        assert [row.annotation_id for row in read_back] == [each.name for each in objects]
        assert [row.group_name for row in read_back] == [each and each.name for each in classes]
        assert [row.note for row in read_back] == [None] * len(shapes)
        for row, each in zip(read_back, shapes, strict=True):
            found = shapely.from_wkb(row.geometry)
            assert found.equals(each)
            assert found.normalize().equals_exact(each.normalize(), 1e-6)
        assert "1 of QuPath's tile objects" in str(ignored.note)  # predictions never come back as annotations

    check()


@settings(deadline=None, max_examples=50)
@given(st.one_of(polygons(), multipolygons()))
def test_outlines_run_counter_clockwise_holes_the_other_way_and_all_are_closed(geometry: BaseGeometry) -> None:
    from lake.geojson import _feature

    written = _feature(annotation(geometry))["geometry"]
    for outline, *holes in written["coordinates"] if written["type"] == "MultiPolygon" else [written["coordinates"]]:
        assert shapely.is_ccw(shapely.LinearRing(outline))
        assert not any(shapely.is_ccw(shapely.LinearRing(hole)) for hole in holes)
        assert all(ring[0] == ring[-1] for ring in (outline, *holes))


def test_an_object_has_the_members_that_qupath_reads_and_no_others(tmp_path: Path) -> None:
    box = shapely.box(0, 0, 1, 1)
    full = PathObject(
        key=("s", 1),
        geometry=box,
        kind="tile",
        name="O'Brien µ",
        classification=Class("Tumor", (200, 0, 0)),
        measurements={"probability": 0.1},
        metadata={"source": "a.xml"},
    )
    write_geojson(
        tmp_path / "x.geojson", [full, PathObject(key=(), geometry=box, kind="annotation")], {"slide_id": "s"}
    )
    content = read(tmp_path / "x.geojson")
    assert content["type"] == "FeatureCollection"
    assert content["histolake"] == {"slide_id": "s", "notice": "Research use only. Not for diagnosis."}
    assert content["features"][0]["properties"] == {
        "objectType": "tile",
        "name": "O'Brien µ",
        "classification": {"name": "Tumor", "color": [200, 0, 0]},
        "measurements": {"probability": 0.1},
        "metadata": {"source": "a.xml"},
    }
    assert content["features"][1]["properties"] == {"objectType": "annotation"}  # QuPath fails on a name that is null
    assert all(set(each) == {"type", "id", "geometry", "properties"} for each in content["features"])


def test_ids_follow_from_the_key(tmp_path: Path) -> None:
    keys = [("tile", "s", 1.0), ("tile", "s", 1.5), ("tile", "s1", 0.5), ("tile", "s", "1.0")]
    ids = []
    for _ in range(2):
        write_geojson(tmp_path / "x.geojson", [annotation(shapely.Point(0, 0), *key) for key in keys], {})
        ids.append([UUID(feature["id"]) for feature in read(tmp_path / "x.geojson")["features"]])
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(keys)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.geojson"
    write_geojson(path, [annotation(shapely.Point(1, 2))], {})
    before = path.read_bytes()

    def failing() -> Any:
        yield annotation(shapely.Point(3, 4))
        raise OSError(28, "No space left on device")

    with pytest.raises(HistolakeError, match=r"x\.geojson: cannot be written: No space left"):
        write_geojson(path, failing(), {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
