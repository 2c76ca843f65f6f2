import duckdb
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.errors import AnnotationError
from udfs.geometry import annotated_area, bounding_box, contains_points, covered_fractions, make_point, point

RING = shapely.Polygon([(0, 0), (100, 0), (100, 100), (0, 100)], [[(40, 40), (60, 40), (60, 60), (40, 60)]])
coordinates = st.integers(-20, 120)


def blobs(*shapes: shapely.Geometry | None) -> pa.Array:
    return pa.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], pa.binary())


def lists(*values: list[float | None] | None) -> pa.Array:
    return pa.array(values, pa.list_(pa.float64()))


@st.composite
def areas(draw) -> shapely.Geometry:
    """Unions of triangles and boxes, with holes and several parts."""
    triangles = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=3, unique=True)
    shapes = [shapely.Polygon(ring).buffer(0) for ring in draw(st.lists(triangles, min_size=1, max_size=4))]
    return shapely.difference(
        shapely.union_all(shapes), draw(st.sampled_from([shapely.Polygon(), shapely.box(30, 30, 50, 70)]))
    )


squares = st.lists(st.tuples(coordinates, coordinates, st.floats(0.5, 60), st.floats(0.5, 60)), min_size=1, max_size=12)


@settings(deadline=None)
@given(shape=areas(), rows=squares)
def test_covered_fractions_are_those_of_each_square_by_itself(shape, rows):
    found = covered_fractions(blobs(shape), *(lists(list(values)) for values in zip(*rows, strict=True))).to_pylist()[0]
    for (x, y, width, height), fraction in zip(rows, found, strict=True):
        square = shapely.box(x, y, x + width, y + height)
        assert fraction == pytest.approx(shape.intersection(square).area / square.area, abs=1e-9)
        assert 0 <= fraction <= 1


@settings(deadline=None)
@given(shape=areas(), points=st.lists(st.tuples(st.floats(-30, 130), st.floats(-30, 130)), min_size=1, max_size=20))
def test_points_inside_are_those_that_the_area_contains_one_by_one(shape, points):
    found = contains_points(blobs(shape), *(lists(list(values)) for values in zip(*points, strict=True)))
    assert found.to_pylist()[0] == [shape.contains(shapely.Point(at)) for at in points]


def test_a_point_in_a_hole_or_on_the_outline_is_not_inside():
    found = contains_points(blobs(RING), lists([50, 20, 0, 100]), lists([50, 20, 50, 100]))
    assert found.to_pylist() == [[False, True, False, False]]


def test_exclusions_are_cut_out_of_the_union(con):
    shapes = [shapely.box(0, 0, 60, 100), shapely.box(40, 0, 100, 100), shapely.box(40, 40, 60, 60)]
    (found,) = con.execute(
        "select annotated_area($1, [false, null, true])", [[shapely.to_wkb(shape) for shape in shapes]]
    ).fetchone()
    assert shapely.from_wkb(found).equals(RING)


def test_an_area_of_exclusions_only_or_of_nothing_is_empty():
    flags = pa.array([[True], []], pa.list_(pa.bool_()))
    found = annotated_area(pa.array([[shapely.to_wkb(RING)], []], pa.list_(pa.binary())), flags)
    assert [shapely.from_wkb(one).is_empty for one in found.to_pylist()] == [True, True]
    assert covered_fractions(found, lists([0], [0]), *[lists([0], [0])], *[lists([9], [9])] * 2).to_pylist() == [
        [0],
        [0],
    ]


def test_a_crossing_outline_is_repaired_and_a_null_one_left_out():
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    geometries = pa.array([[shapely.to_wkb(bow_tie), None]], pa.list_(pa.binary()))
    found = annotated_area(geometries, pa.array([[False, True]], pa.list_(pa.bool_())))
    assert shapely.from_wkb(found[0].as_py()).area == 50


def test_where_an_area_is_null_nothing_is_covered_and_no_point_inside():
    assert contains_points(blobs(None), lists([1, 2]), lists([1, 2])).to_pylist() == [[False, False]]
    assert covered_fractions(blobs(None), *[lists([1, 2])] * 4).to_pylist() == [[0, 0]]


def test_numbers_that_are_null_or_sizes_that_are_none_have_null_beside_them():
    assert contains_points(blobs(RING), lists([1, None]), lists([1, 1])).to_pylist() == [[True, None]]
    found = covered_fractions(
        blobs(RING), lists([1, None, 1, 1]), *[lists([1] * 4)], lists([1, 1, 0, -1]), lists([1] * 4)
    )
    assert found.to_pylist() == [[1, None, None, None]]


def test_columns_that_are_slices_of_others_are_read_from_where_they_start():
    """As DuckDB may hand them over."""
    xs, ys = lists([9, 9, 9], [50], [1]).slice(1), lists([9, 9, 9], [20], [1]).slice(1)
    assert contains_points(blobs(None, RING, RING).slice(1), xs, ys).to_pylist() == [[True], [True]]
    assert covered_fractions(blobs(None, RING, RING).slice(1), xs, ys, *[lists([5], [5])] * 2).to_pylist() == [[1], [1]]


def test_lists_of_different_lengths_are_refused(con):
    with pytest.raises(duckdb.InvalidInputException, match="lists of 2, 1 coordinates belong together"):
        con.execute("select contains_points(null, [1, 2], [1])").fetchone()
    with pytest.raises(duckdb.InvalidInputException, match="1 geometries have 2 exclusion flags"):
        con.execute("select annotated_area([$1], [true, false])", [shapely.to_wkb(RING)]).fetchone()


@pytest.mark.parametrize("blob", [b"", b"nonsense", shapely.to_wkb(RING)[:-3]])
def test_bytes_that_are_no_geometry_are_refused_in_one_sentence(con, blob):
    for call in ("point($1)", "bounding_box($1)", "annotated_area([$1], [false])", "contains_points($1, [1], [1])"):
        with pytest.raises(duckdb.InvalidInputException, match="a geometry is not well-known binary"):
            con.execute(f"select {call}", [blob]).fetchone()


def test_a_bounding_box_is_corner_and_size_and_null_where_there_is_none():
    found = bounding_box(blobs(shapely.box(-5, 10, 20, 12), shapely.Polygon(), None)).to_pylist()
    assert found == [[-5, 10, 25, 2], None, None]


@settings(deadline=None)
@given(x=st.floats(-1e6, 1e6), y=st.floats(-1e6, 1e6))
def test_a_point_made_is_the_point_read(x, y):
    assert point(make_point(pa.array([x]), pa.array([y]))).to_pylist() == [{"x": x, "y": y}]


def test_what_is_not_a_point_has_no_coordinates():
    shapes = blobs(RING, shapely.Point(), None, shapely.MultiPoint([(1, 2)]), shapely.Point(3, 4))
    assert point(shapes).to_pylist() == [None, None, None, None, {"x": 3, "y": 4}]


def test_coordinates_that_are_no_numbers_make_no_point():
    xs, ys = pa.array([1.0, None, float("nan"), 1.0]), pa.array([None, 1.0, 1.0, float("inf")])
    assert make_point(xs, ys).to_pylist() == [None] * 4


def test_of_a_slides_patches_only_those_on_a_large_outline_are_cut(monkeypatch):
    """Every patch against every corner would take minutes: an index of the corners finds those that need cutting."""
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 50_000 + 2_000 * np.sin(400 * angles)
    outline = shapely.Polygon(np.column_stack([radius * np.cos(angles), radius * np.sin(angles)]) + 60_000)
    xs, ys = (axis.ravel() for axis in np.meshgrid(np.arange(90.0) * 1300, np.arange(90.0) * 1300))
    met = {name: [] for name in ("contains", "intersects", "intersection")}

    def spied(name, function):
        def call(shape, squares):
            met[name].append((shapely.is_prepared(shape), len(squares)))
            return function(shape, squares)

        return call

    for name in met:
        monkeypatch.setattr(shapely, name, spied(name, getattr(shapely, name)))
    columns = [lists(values.tolist()) for values in (xs, ys, *[np.full(len(xs), 1300.0)] * 2)]
    fractions = covered_fractions(blobs(outline), *columns).to_pylist()[0]
    monkeypatch.undo()
    assert all(is_prepared for calls in met.values() for is_prepared, _ in calls)
    ring = outline.exterior
    shapely.prepare(ring)
    crossed = shapely.intersects(ring, shapely.box(xs, ys, xs + 1300, ys + 1300)).sum()
    assert sum(count for _, count in met["intersection"]) == crossed < len(xs) / 5
    inside = contains_points(blobs(outline), *columns[:2]).to_pylist()[0]
    assert np.mean(inside) == pytest.approx(outline.area / (90 * 1300) ** 2, abs=0.01)
    assert np.mean(fractions) == pytest.approx(outline.area / (90 * 1300) ** 2, abs=0.01)


def test_annotations_that_cross_each_other_all_over_are_refused():
    """Each is a sound rectangle, and of 5,000 and 5,000 GEOS would make 25 million crossings."""
    shapes = [shapely.box(0, 10 * number, 10_000, 10 * number + 1) for number in range(1_000)]
    shapes += [shapely.box(10 * number, 0, 10 * number + 1, 10_000) for number in range(1_000)]
    with pytest.raises(AnnotationError, match="cross each other all over; draw them again"):
        annotated_area(pa.array([blobs(*shapes).to_pylist()]), pa.array([[False] * 2_000]))


def test_an_outline_that_several_people_drew_alike_is_united():
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    drawn = [
        shapely.Polygon(np.stack([np.cos(angles), np.sin(angles)], 1) * radius) for radius in (1000, 1000, 1000.01, 999)
    ]
    (found,) = annotated_area(pa.array([blobs(*drawn).to_pylist()]), pa.array([[False] * 4])).to_pylist()
    assert shapely.from_wkb(found).area == pytest.approx(drawn[2].area, rel=1e-6)
