from pathlib import Path
from xml.etree import ElementTree

import duckdb
import numpy as np
import pytest
import shapely
from support import grows_in_proportion

from udfs.annotations import asap as asap_xml
from udfs.annotations.asap import AREAS, read_asap
from udfs.annotations.shapes import Repairs, area
from udfs.errors import AnnotationError

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]


def annotation(vertices, name="Annotation 0", kind="Polygon", group="Tumor") -> str:
    points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(vertices))
    attributes = "".join(
        f' {key}="{value}"'
        for key, value in (("Name", name), ("Type", kind), ("PartOfGroup", group))
        if value is not None
    )
    return f"<Annotation{attributes}><Coordinates>{points}</Coordinates></Annotation>"


@pytest.fixture
def asap(tmp_path):
    """Write an ASAP file of the given annotations."""

    def write(*annotations: str) -> Path:
        path = tmp_path / "slide.xml"
        inside = f"<Annotations>{''.join(annotations)}</Annotations>"
        path.write_text(f'<?xml version="1.0"?><ASAP_Annotations>{inside}</ASAP_Annotations>')
        return path

    return write


def shapes(path: Path) -> dict[str, shapely.Geometry]:
    return {row.annotation_id: shapely.from_wkb(row.geometry) for row in read_asap(path)}


def test_an_asap_file_is_a_list_of_named_shapes_with_their_groups(con, asap):
    path = asap(
        annotation(SQUARE, "A"), annotation(SQUARE, "B", "Rectangle", "None"), annotation(SQUARE, "C", "Spline", "_2")
    )
    rows = con.execute("select unnest(read_annotations(?, 'asap_xml'), recursive := true)", [str(path)]).fetchall()
    assert [(name, group, note) for name, group, _, note in rows] == [
        ("A", "Tumor", None),
        ("B", None, None),
        ("C", "_2", None),
    ]
    assert all(shapely.from_wkb(blob).equals(shapely.Polygon(SQUARE)) for _, _, blob, _ in rows)


def test_vertices_are_taken_by_their_order_not_their_place(asap):
    path = asap(annotation(SQUARE))
    lines = path.read_text()
    points = lines[lines.index("<Coordinate ") : lines.index("</Coordinates>")]
    shuffled = "".join(
        f"<Coordinate {one}"
        for one in [*points.split("<Coordinate ")[1:]][::2] + [*points.split("<Coordinate ")[1:]][1::2]
    )
    path.write_text(lines.replace(points, shuffled))
    assert shapes(path)["Annotation 0"].equals(shapely.Polygon(SQUARE))


def test_eleven_vertices_are_ordered_as_numbers(asap):
    ring = [(np.cos(angle), np.sin(angle)) for angle in np.linspace(0, 6, 11)]
    assert shapes(asap(annotation(ring)))["Annotation 0"].area == pytest.approx(shapely.Polygon(ring).area)


def test_names_that_repeat_get_numbers_that_no_other_has(asap):
    names = ["A", "A", "A (2)", "A", "", None]
    path = asap(*(annotation(SQUARE, name) for name in names))
    assert [row.annotation_id for row in read_asap(path)] == [
        "A",
        "A (2)",
        "A (2) (2)",
        "A (3)",
        "Annotation",
        "Annotation (2)",
    ]


def test_a_group_that_is_none_empty_or_missing_is_no_group(asap):
    path = asap(*(annotation(SQUARE, f"{number}", group=group) for number, group in enumerate(["None", "", None])))
    assert [row.group_name for row in read_asap(path)] == [None, None, None]


def test_commas_are_decimal_marks(asap):
    path = asap(annotation([("0,5", "0,5"), ("10,5", "0,5"), ("10,5", "10,25")]))
    assert shapes(path)["Annotation 0"].bounds == (0.5, 0.5, 10.5, 10.25)


@pytest.mark.parametrize("ring", [[], [(1, 1)], [(1, 1), (2, 2)], [(1, 1), (2, 2), (1, 1)]])
def test_an_outline_of_fewer_than_three_vertices_is_kept_empty_with_a_note(asap, ring):
    (row,) = read_asap(asap(annotation(ring)))
    assert shapely.from_wkb(row.geometry).is_empty
    assert row.note == "has fewer than three vertices: ignored"


def test_an_outline_on_a_line_is_kept_empty_with_a_note(asap):
    (row,) = read_asap(asap(annotation([(0, 0), (5, 5), (10, 10)])))
    assert shapely.from_wkb(row.geometry).is_empty
    assert row.note == "has no area: ignored"


def test_a_crossing_outline_is_repaired_and_says_so(asap):
    (row,) = read_asap(asap(annotation([(0, 0), (10, 10), (10, 0), (0, 10)])))
    assert shapely.from_wkb(row.geometry).is_valid
    assert shapely.from_wkb(row.geometry).area == 50
    assert row.note == "repaired: Self-intersection[5 5]"


def test_a_closed_outline_and_doubled_vertices_need_no_repair(asap):
    (row,) = read_asap(asap(annotation([*SQUARE, SQUARE[-1], SQUARE[0]])))
    assert shapely.from_wkb(row.geometry).area == 100
    assert row.note is None


def test_dots_and_point_sets_are_points(asap):
    path = asap(
        annotation([(1, 2)], "D", "Dot"), annotation([(3, 4), (5, 6)], "P", "PointSet"), annotation([], "E", "Dot")
    )
    assert shapes(path) == {"D": shapely.Point(1, 2), "P": shapely.Point(3, 4), "P [1]": shapely.Point(5, 6)}


def test_a_measurement_is_kept_without_area(asap):
    (row,) = read_asap(asap(annotation([(0, 0), (9, 9)], kind="Measurement")))
    assert shapely.from_wkb(row.geometry).is_empty
    assert row.note == "is of type Measurement: ignored"


def test_a_shape_without_type_is_an_area(asap):
    assert shapes(asap(annotation(SQUARE, kind=None)))["Annotation 0"].area == 100


def test_a_shape_of_unknown_type_is_refused_with_those_that_are_known(asap):
    with pytest.raises(AnnotationError, match="'Annotation 0' has the Type 'Blob'; convert it to one of Polygon"):
        list(read_asap(asap(annotation(SQUARE, kind="Blob"))))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300"])
@pytest.mark.parametrize("kind", ["Polygon", "Dot"])
def test_a_vertex_that_no_slide_can_hold_is_refused(asap, value, kind):
    with pytest.raises(
        AnnotationError, match=r"slide\.xml: annotation 'Annotation 0' has a vertex that no slide can hold"
    ):
        list(read_asap(asap(annotation([(0, 0), (5, value), (9, 0)], kind=kind))))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('Order="1" ', "", "no Order"),
        ('X="10"', "", "no X"),
        ('Y="10"', 'Y="ten"', "could not convert string to float: 'ten'"),
        ('X="10"', 'X="1,234.5"', "could not convert string to float: '1.234.5'"),
        ('X="10"', 'X=""', "could not convert string to float: ''"),
    ],
)
def test_a_vertex_without_numbers_is_named(asap, old, new, reason):
    path = asap(annotation(SQUARE))
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(AnnotationError, match=rf"slide\.xml: annotation 'Annotation 0', vertex \d: {reason}; export"):
        list(read_asap(path))


BILLION = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
REFUSED = {
    "empty": ("", "not well-formed XML"),
    "text": ("x,y\n1,2\n", "not well-formed XML"),
    "cut off": ("<ASAP_Annotations><Annotations>", "not well-formed XML"),
    "binary": ("\x00\x01\x02", "not well-formed XML"),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?><ASAP_Annotations/>', "not well-formed XML"),
    "wide encoding": ('<?xml version="1.0" encoding="shift_jis"?><ASAP_Annotations/>', "not well-formed XML"),
    "DTD": ("<!DOCTYPE a><ASAP_Annotations/>", "a DTD or entities is refused"),
    "nested deeply": ("<a>" * (asap_xml.DEEPEST + 1) + "</a>" * (asap_xml.DEEPEST + 1), "nested too deeply"),
    "billion laughs": (
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{BILLION}]><ASAP_Annotations>&l9;</ASAP_Annotations>',
        "is refused",
    ),
    "file": (
        '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><ASAP_Annotations>&f;</ASAP_Annotations>',
        "is refused",
    ),
    "other XML": ("<Annotations/>", "the root element is <Annotations>, not <ASAP_Annotations>"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_not_asap_xml_is_refused_in_one_sentence(tmp_path, kind):
    content, reason = REFUSED[kind]
    path = tmp_path / "slide.xml"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=reason) as refused:
        list(read_asap(path))
    assert str(refused.value).startswith(f"{path}: ")
    assert "export it" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["missing.xml", "folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(AnnotationError, match=rf"{name}: cannot be read \("):
        list(read_asap(tmp_path / name))


def test_an_unknown_format_is_refused_with_those_that_are_known(con):
    with pytest.raises(
        duckdb.InvalidInputException, match="annotation format 'xls' is not known; known are asap_xml, qupath_geojson"
    ):
        con.execute("select read_annotations('a.xls', 'xls')").fetchone()


def test_a_file_without_annotations_has_no_rows(con, asap):
    assert con.execute("select read_annotations(?, 'asap_xml')", [str(asap())]).fetchone() == ([],)


def smooth(count: int) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([np.cos(angles), np.sin(angles)]) * 40_000 + 50_000


def test_an_outline_of_twenty_thousand_vertices_that_crosses_itself_is_repaired(asap):
    crossing = smooth(20_000)
    crossing[[500, 700]] = crossing[[700, 500]]
    rows = list(read_asap(asap(annotation(smooth(20_000).tolist(), "smooth"), annotation(crossing.tolist(), "cross"))))
    assert [row.note and row.note[:8] for row in rows] == [None, "repaired"]
    assert shapely.from_wkb(rows[1].geometry).area == pytest.approx(np.pi * 40_000**2, rel=1e-3)


def test_time_grows_with_the_vertices_and_not_with_their_square(asap):
    def read(count: int) -> None:
        crossing = smooth(count)
        crossing[[50, 70]] = crossing[[70, 50]]
        path = asap(annotation(crossing.tolist(), "crossing"))
        assert len(list(read_asap(path))) == 1

    assert grows_in_proportion(read, 2_000)


def test_time_grows_with_the_shapes_of_one_name_and_not_with_their_square(asap):
    def read(count: int) -> None:
        points = annotation([(number, 0) for number in range(4 * count)], "P", "PointSet")
        path = asap(points, *[annotation(SQUARE, "A")] * count)
        assert len({row.annotation_id for row in read_asap(path)}) == 5 * count

    assert grows_in_proportion(read, 200)


def test_area_refuses_vertices_that_are_no_numbers():
    with pytest.raises(AnnotationError, match="no slide can hold"):
        area(Repairs(Path("a.xml")), "A", [(0, 0), (float("nan"), 1), (2, 2)])
    assert "Polygon" in AREAS


def test_more_elements_than_annotations_have_are_refused_while_they_are_read(asap, monkeypatch):
    path = asap(annotation(SQUARE))
    elements = sum(1 for _ in ElementTree.parse(path).iter())
    monkeypatch.setattr(asap_xml, "MOST", elements)
    assert len(list(read_asap(path))) == 1
    monkeypatch.setattr(asap_xml, "MOST", elements - 1)
    with pytest.raises(AnnotationError, match="elements; export the annotations alone"):
        list(read_asap(path))
