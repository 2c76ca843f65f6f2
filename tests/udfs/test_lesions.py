import duckdb
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from udfs.lesions import lesions, lesions_hit, major_axis


def found(shape: shapely.Geometry, mpp_x: float = 0.25, mpp_y: float = 0.25) -> list[dict]:
    """The lesions of one area, with geometries."""
    (rows,) = lesions(pa.array([shapely.to_wkb(shape)]), pa.array([mpp_x]), pa.array([mpp_y])).to_pylist()
    return [{**row, "geometry": shapely.from_wkb(row["geometry"])} for row in rows]


def square(x: float, y: float, size: float) -> shapely.Polygon:
    return shapely.box(x, y, x + size, y + size)


def test_an_area_grows_by_half_of_75_microns_on_every_side():
    (lesion,) = found(square(1000, 2000, 400))
    assert lesion["geometry"].bounds == pytest.approx((850, 1850, 1550, 2550))
    assert lesion["geometry"].area == pytest.approx(400**2 + 4 * 400 * 150 + np.pi * 150**2, rel=1e-3)


def test_shapes_less_than_75_microns_apart_are_one_lesion_and_others_are_numbered_from_the_top():
    two = shapely.union_all([square(0, 1000, 400), square(400 + 290, 1000, 400), square(0, 0, 400)])
    assert [(each["number"], each["geometry"].bounds[1]) for each in found(two)] == [(1, -150), (2, 850)]
    assert len(found(shapely.union_all([square(0, 0, 400), square(400 + 310, 0, 400)]))) == 2


def test_holes_are_filled_with_what_lies_in_them():
    ring = square(0, 0, 8000).difference(square(1000, 1000, 6000))
    (lesion,) = found(shapely.union_all([ring, square(3500, 3500, 500)]))
    assert not lesion["geometry"].interiors
    assert lesion["geometry"].contains(shapely.Point(2500, 2500))


@pytest.mark.parametrize(("length_um", "is_itc"), [(190, True), (210, False)])
def test_what_is_shorter_than_275_microns_when_grown_is_isolated_tumor_cells(length_um, is_itc):
    """A disc's major axis is its diameter: 75 microns more than before it grew."""
    disc = shapely.Point(5000, 5000).buffer(length_um / 2 / 0.25, quad_segs=64)
    (lesion,) = found(disc)
    assert lesion["major_axis_um"] == pytest.approx(length_um + 75, abs=0.3)
    assert lesion["is_itc"] == is_itc


def test_lengths_are_microns_where_pixels_are_not_square():
    ellipse = shapely.transform(shapely.Point(0, 0).buffer(1, quad_segs=64), lambda xy: xy * [400 / 0.5, 400 / 0.2])
    (lesion,) = found(ellipse, mpp_x=0.5, mpp_y=0.2)
    assert lesion["major_axis_um"] == pytest.approx(2 * 437.5, abs=0.5)
    assert lesion["geometry"].bounds == pytest.approx((-875, -2187.5, 875, 2187.5), rel=1e-4)


rings = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=3, max_size=7, unique=True)


@settings(deadline=None, max_examples=25)
@given(ring=rings, offset=st.sampled_from([0, 200_000]))
def test_the_major_axis_is_that_of_scikit_image(ring, offset):
    shape = shapely.MultiPoint(ring).convex_hull.buffer(5)
    centres = (np.arange(-60, 700) + 0.5) / 5
    image = shapely.contains_xy(shape, *np.meshgrid(centres, centres)).astype(int)
    (region,) = measure.regionprops(image)
    moved = shapely.transform(shape, lambda xy: xy + offset)
    assert major_axis(moved) == pytest.approx(region.axis_major_length / 5, abs=0.1)


def test_an_area_of_nothing_has_no_lesions_and_a_resolution_of_nothing_is_refused(con):
    assert found(shapely.Polygon()) == []
    with pytest.raises(duckdb.InvalidInputException, match=r"0 x .* per pixel: a resolution must be above 0"):
        con.execute("select lesions($1, 0, 0.25)", [shapely.to_wkb(square(0, 0, 9))]).fetchone()


def test_a_point_hits_the_lesion_that_it_lies_in_and_0_is_none(con):
    outlines = [shapely.to_wkb(square(0, 0, 10)), shapely.to_wkb(square(20, 0, 10))]
    hits = con.execute("select lesions_hit($1, [25, 5, 15, 0, null], [5, 5, 5, 5, 5])", [outlines]).fetchone()
    assert hits == ([2, 1, 0, 0, None],)
    assert con.execute("select lesions_hit(null, [1.0], [1.0]), lesions_hit([], [], [])").fetchone() == ([0], [])


@settings(deadline=None)
@given(points=st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 15)), min_size=1, max_size=30))
def test_hits_are_those_found_one_by_one(points):
    outlines = [square(0, 0, 10), shapely.Point(30, 5).buffer(5), square(11, 0, 5)]
    xs, ys = (pa.array([list(values)]) for values in zip(*points, strict=True))
    hits = lesions_hit(pa.array([[shapely.to_wkb(each) for each in outlines]]), xs, ys).to_pylist()[0]
    for point, hit in zip(points, hits, strict=True):
        assert hit == next((n for n, each in enumerate(outlines, 1) if each.contains(shapely.Point(point))), 0)
