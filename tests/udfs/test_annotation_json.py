"""QuPath's GeoJSON and NCRF's JSON: what is read, what is left out and said so, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from udfs.annotations import shapes
from udfs.annotations.geojson import read_geojson
from udfs.annotations.ncrf import read_ncrf
from udfs.annotations.shapes import Annotation
from udfs.errors import AnnotationError

SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
FAR = [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]
BOW = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def feature(geometry: Any, known_by: Any = None, **properties: Any) -> dict[str, Any]:
    head = {"type": "Feature", "geometry": geometry, "properties": properties}
    return head if known_by is None else {**head, "id": known_by}


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def geojson(folder: Path, content: Any) -> list[Annotation]:
    path = folder / "slide.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return list(read_geojson(path))


def shape(row: Annotation) -> shapely.Geometry:
    return shapely.from_wkb(row.geometry)


ONE = feature(polygon(SQUARE), "6f1c", objectType="annotation", classification={"name": "Tumor", "color": [1, 2, 3]})


@pytest.mark.parametrize(
    "content",
    [{"type": "FeatureCollection", "features": [ONE]}, [ONE], ONE],
    ids=["collection", "list", "feature"],
)
def test_the_three_forms_of_a_file_are_read_alike(tmp_path: Path, content: Any) -> None:
    (row,) = geojson(tmp_path, content)
    assert (row.annotation_id, row.group_name, row.note) == ("6f1c", "Tumor", None)
    assert shape(row).equals(shapely.box(0, 0, 10, 10))


def test_holes_are_cut_out_and_the_polygons_of_one_annotation_are_one_shape(tmp_path: Path) -> None:
    parts = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [FAR]]}
    collection = {"type": "GeometryCollection", "geometries": [polygon(SQUARE, HOLE), polygon(FAR)]}
    rows = geojson(tmp_path, [feature(polygon(SQUARE, HOLE)), feature(parts), feature(collection)])
    assert [shape(row).area for row in rows] == [96, 196, 196]
    assert [row.annotation_id for row in rows] == ["Annotation", "Annotation (2)", "Annotation (3)"]
    assert not shape(rows[0]).contains(shapely.Point(3, 3))


def test_points_are_points_and_lines_are_kept_without_area_and_said_to_be(tmp_path: Path) -> None:
    rows = geojson(
        tmp_path,
        [
            feature({"type": "Point", "coordinates": [1, 2]}, name="P"),
            feature({"type": "MultiPoint", "coordinates": [[3, 4], [5, 6]]}, name="M"),
            feature({"type": "LineString", "coordinates": [[0, 0], [9, 9]]}, name="L"),
            feature(
                {
                    "type": "GeometryCollection",
                    "geometries": [polygon(SQUARE), {"type": "Point", "coordinates": [7, 8]}],
                },
                name="G",
            ),
            feature(None, name="N"),
        ],
    )
    assert {row.annotation_id: (shapely.to_wkt(shape(row), rounding_precision=0)[:12], row.note) for row in rows} == {
        "P": ("POINT (1 2)", None),
        "M": ("POINT (3 4)", None),
        "M [1]": ("POINT (5 6)", None),
        "L": ("POLYGON EMPT", "is a line: ignored"),
        "G": ("POLYGON ((0 ", None),
        "G [1]": ("POINT (7 8)", None),
        "N": ("POLYGON EMPT", "has no geometry: ignored"),
    }


@pytest.mark.parametrize(
    ("classification", "group"),
    [
        ({"name": "Tumor"}, "Tumor"),
        ({"names": ["Tumor", "Positive"]}, "Tumor: Positive"),
        ("Stroma", "Stroma"),
        (["Tumor", "Negative"], "Tumor: Negative"),
        (None, None),
        ({}, None),
        ("", None),
    ],
)
def test_a_class_is_the_group_and_a_derived_class_has_all_its_names(
    tmp_path: Path, classification: Any, group: str | None
) -> None:
    assert [row.group_name for row in geojson(tmp_path, feature(polygon(SQUARE), classification=classification))] == [
        group
    ]


def test_an_annotation_is_called_by_its_name_else_by_its_id_and_ids_of_old_versions_are_none(tmp_path: Path) -> None:
    rows = geojson(
        tmp_path,
        [
            feature(polygon(SQUARE), "a1", name="Left"),
            feature(polygon(SQUARE), "a2"),
            feature(polygon(SQUARE), "PathAnnotationObject"),
            feature(polygon(SQUARE), name="Left"),
        ],
    )
    assert [row.annotation_id for row in rows] == ["Left", "a2", "Annotation", "Left (2)"]


def test_tiles_detections_and_cells_are_no_annotations_and_are_counted(tmp_path: Path) -> None:
    tile = feature(polygon(FAR), "t", objectType="tile", classification={"name": "Tumor"}, measurements={"p": 1})
    rows = geojson(
        tmp_path,
        [tile, tile, ONE, feature(polygon(FAR), "PathCellObject"), feature(polygon(FAR), object_type="detection")],
    )
    assert [(row.annotation_id, row.group_name, row.note) for row in rows] == [
        ("6f1c", "Tumor", None),
        ("cell objects", None, "1 of QuPath's cell objects, no annotations: ignored"),
        ("detection objects", None, "1 of QuPath's detection objects, no annotations: ignored"),
        ("tile objects", None, "2 of QuPath's tile objects, no annotations: ignored"),
    ]
    assert shape(rows[-1]).is_empty


def test_invalid_outlines_are_repaired_and_said_to_be_and_no_hole_becomes_land(tmp_path: Path) -> None:
    crossing, outside, speck, line = geojson(
        tmp_path,
        [
            feature(polygon(BOW)),
            feature(polygon(SQUARE, FAR)),
            feature(polygon(SQUARE, [[1, 1], [2, 2], [1, 1]])),
            feature(polygon([[0, 0], [5, 5], [9, 9], [0, 0]])),
        ],
    )
    assert (shape(crossing).area, crossing.note) == (50, "repaired: Self-intersection[5 5]")
    assert (shape(outside).area, outside.note) == (100, "repaired: Hole lies outside shell[20 20]")
    assert (shape(speck).area, speck.note) == (100, "repaired: a hole has fewer than three vertices")
    assert (shape(line).area, line.note) == (0, "has no area: ignored")


coordinates = st.integers(0, 50)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=8)


@settings(deadline=None)
@given(outside=rings, hole=rings)
@example(outside=[(0, 32), (2, 31), (33, 23)], hole=[(0, 11), (10, 23), (18, 33)])  # GEOS's difference is wrong there
def test_whatever_is_drawn_is_valid_and_lies_outside_the_hole(
    tmp_path_factory: pytest.TempPathFactory, outside: Any, hole: Any
) -> None:
    (row,) = geojson(tmp_path_factory.getbasetemp(), feature(polygon(outside, hole)))
    area = shape(row)
    assert area.is_valid
    cut = shapely.make_valid(shapely.Polygon(hole), method="structure", keep_collapsed=False)
    assert shapely.intersection(area, cut).area < 1e-6
    around = shapely.buffer(shapely.convex_hull(shapely.MultiPoint(outside)), 1e-6)
    assert area.is_empty or shapely.covers(around, area)
    is_sound = len(set(outside)) >= 3 and len(set(hole)) >= 3 and shapely.Polygon(outside, [hole]).is_valid
    assert (row.note is None) == is_sound


DEEP = "[" * 100_000 + "]" * 100_000
NESTED = '{"type":"GeometryCollection","geometries":[' * 200 + json.dumps(polygon(SQUARE)) + "]}" * 200
REFUSED = {
    "empty": ("", "not well-formed JSON"),
    "text": ("x,y\n1,2", "not well-formed JSON"),
    "cut off": ('{"type": "FeatureCollection", "features": [', "not well-formed JSON"),
    "deep": (DEEP, "nested too deeply"),
    "number": ("7", "not a GeoJSON FeatureCollection, Feature or list"),
    "other": ({"type": "Topology"}, "not a GeoJSON FeatureCollection"),
    "no features": ({"type": "FeatureCollection"}, "not a GeoJSON FeatureCollection"),
    "list of numbers": ([1], "item 1 is not a GeoJSON Feature"),
    "properties": ([{"type": "Feature", "geometry": None, "properties": [1]}], "feature 1 has properties"),
    "class": (feature(polygon(SQUARE), "q", classification=7), "annotation 'q' has a classification that is no name"),
    "circle": (feature({"type": "Circle", "coordinates": []}, "q"), "annotation 'q' is a 'Circle'"),
    "geometry": (feature([1], "q"), "annotation 'q' has no GeoJSON geometry"),
    "rings": (feature(polygon(7), "q"), "annotation 'q' has no list of vertices"),
    "flat": (feature({"type": "MultiPolygon", "coordinates": [7]}, "q"), "annotation 'q' has a polygon without rings"),
    "vertex": (feature(polygon([[0, 0], [1, "a"], [2, 2]]), "q"), "annotation 'q', vertex 2: not two numbers"),
    "truth": (feature(polygon([[0, 0], [1, True], [2, 2]]), "q"), "annotation 'q', vertex 2: not two numbers"),
    "short": (feature(polygon([[0, 0], [1], [2, 2]]), "q"), "annotation 'q', vertex 2: not two numbers"),
    "NaN": (feature(polygon([[0, 0], [1, float("nan")], [2, 2]]), "q"), "annotation 'q' has a vertex that no slide"),
    "infinity": (feature({"type": "Point", "coordinates": [0, float("inf")]}, "q"), "no slide can hold"),
    "huge": (feature({"type": "Point", "coordinates": [0, 10**400]}, "q"), "no slide can hold"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_not_understood_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(AnnotationError, match=reason) as refused:
        geojson(tmp_path, content)
    assert str(refused.value).startswith(f"{tmp_path / 'slide.geojson'}: ")
    assert "\n" not in str(refused.value)


def test_collections_inside_collections_are_read(tmp_path: Path) -> None:
    (row,) = geojson(tmp_path, f'{{"type": "Feature", "geometry": {NESTED}, "properties": null}}')
    assert shape(row).area == 100


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match=r"a\.json: not UTF-8 text"):
        list(read_geojson(tmp_path / "a.json"))
    with pytest.raises(AnnotationError, match=r"b\.json: cannot be read"):
        list(read_geojson(tmp_path / "b.json"))


def ncrf(folder: Path, content: Any) -> list[Annotation]:
    (folder / "slide.json").write_text(json.dumps(content))
    return list(read_ncrf(folder / "slide.json"))


def test_ncrf_polygons_are_shapes_of_two_groups(tmp_path: Path) -> None:
    rows = ncrf(
        tmp_path,
        {
            "positive": [{"name": "A", "vertices": SQUARE}, {"name": "B", "vertices": BOW}],
            "negative": [{"name": "A", "vertices": HOLE[:-1]}],
        },
    )
    assert [(row.annotation_id, row.group_name, shape(row).area, row.note) for row in rows] == [
        ("A", "ncrf_positive", 100, None),
        ("B", "ncrf_positive", 50, "repaired: Self-intersection[5 5]"),
        ("A (2)", "ncrf_negative", 4, None),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "not NCRF's JSON"),
        ({}, "not NCRF's JSON"),
        ({"positive": [], "other": []}, "not NCRF's JSON"),
        ({"positive": 7}, "'positive' is not a list of polygons"),
        ({"negative": [7]}, "'negative' is not a list of polygons"),
        ({"positive": [{"name": "A"}]}, "annotation 'A' has no list of vertices"),
        ({"positive": [{"name": "A", "vertices": [[1, None]]}]}, "annotation 'A', vertex 1: not two numbers"),
    ],
)
def test_what_is_not_ncrf_json_is_refused_in_one_sentence(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(AnnotationError, match=reason) as refused:
        ncrf(tmp_path, content)
    assert str(refused.value).startswith(f"{tmp_path / 'slide.json'}: ")


def test_formats_are_told_apart_by_ending_and_first_key(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    contents = {
        "a.xml": "",
        "b.geojson": "[]",
        "c.json": '\ufeff {\n "positive": []}',
        "d.json": '{"type": "FeatureCollection", "positive": 1}',
        "e.JSON": '{"negative": []}',
        "missing.json": None,
    }
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_text(content, encoding="utf-8")
    names = [str(tmp_path / name) for name in contents]
    found = con.execute("select list_transform($names, lambda n: annotation_format(n))", {"names": names}).fetchall()
    assert found == [(["asap_xml", "qupath_geojson", "ncrf_json", "qupath_geojson", "ncrf_json", "qupath_geojson"],)]
    assert con.execute("select annotation_format(null)").fetchall() == [(None,)]


def test_the_function_reads_every_format(tmp_path: Path, con: duckdb.DuckDBPyConnection) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"positive": [{"name": "A", "vertices": SQUARE}]}))
    (tmp_path / "b.json").write_text(json.dumps([ONE]))
    read = "select unnest(read_annotations(?, annotation_format(?)), recursive := true)"
    for name, group in (("a.json", "ncrf_positive"), ("b.json", "Tumor")):
        (row,) = con.execute(read, [str(tmp_path / name)] * 2).fetchall()
        assert row[1] == group


def bars(count: int) -> list[list[list[list[int]]]]:
    """Rectangles, half of them across the others: each two meet."""
    flat = [(0, 10 * number, 10 * count, 10 * number + 1) for number in range(count)]
    return [[[[x, y], [right, y], [right, low], [x, low]]] for x, y, right, low in flat] + [
        [[[y, x], [y, right], [low, right], [low, x]]] for x, y, right, low in flat
    ]


def test_polygons_of_one_annotation_that_cross_each_other_all_over_are_refused(tmp_path: Path) -> None:
    """Each by itself is a sound rectangle; of 5,000 and 5,000 GEOS would make 25 million crossings."""
    with pytest.raises(AnnotationError, match=r"slide\.geojson: annotation 'A' crosses itself all over; draw it again"):
        geojson(tmp_path, feature({"type": "MultiPolygon", "coordinates": bars(1_000)}, name="A"))
    (row,) = geojson(tmp_path, feature({"type": "MultiPolygon", "coordinates": bars(10)}, name="A"))
    assert shape(row).area == 2 * 10 * 100 - 100


def test_a_file_of_many_wrong_outlines_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone would be mended in time."""
    monkeypatch.setattr(shapes, "MOST_SECONDS", 0.0)
    assert len(geojson(tmp_path, [feature(polygon(ring), name="A") for ring in (SQUARE, BOW, FAR)])) == 3
    with pytest.raises(AnnotationError, match=r"slide\.geojson: annotation 'B': the outlines before it cross so often"):
        geojson(tmp_path, [feature(polygon(BOW), name=name) for name in "AB"])
