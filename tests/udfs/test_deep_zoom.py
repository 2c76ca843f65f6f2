"""Deep Zoom's geometry and pixels, beside those of OpenSlide's own generator."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openslide.deepzoom import DeepZoomGenerator
from PIL import Image

from udfs.deep_zoom import DeepZoom, read_thumbnail, read_tile
from udfs.errors import TileError
from udfs.slide import Area, dimensions

EDGES = st.integers(1, 3000)


@settings(max_examples=40, deadline=None)
@given(EDGES, EDGES)
def test_levels_and_tiles_are_those_that_openslide_lays_out(width: int, height: int) -> None:
    theirs = DeepZoomGenerator(openslide.ImageSlide(Image.new("RGB", (width, height))), tile_size=254, overlap=1)
    ours = DeepZoom(Area(0, 0, width, height))
    assert ours.levels == theirs.level_count
    for level in range(ours.levels):
        columns, rows = ours.grid(level)
        assert ours.size(level) == theirs.level_dimensions[level]
        assert (columns, rows) == theirs.level_tiles[level]
        for address in {(0, 0), (columns - 1, 0), (columns // 2, rows // 2), (columns - 1, rows - 1)}:
            area, size = ours.tile(level, *address)
            (x, y), _, _ = theirs.get_tile_coordinates(level, address)
            assert size == theirs.get_tile_dimensions(level, address)
            assert (area.x, area.y) == pytest.approx((x, y), abs=1)


def test_tiles_overlap_by_a_pixel_and_cover_the_area_from_its_own_corner() -> None:
    pyramid = DeepZoom(Area(1000, 500, 600, 300))
    top = pyramid.levels - 1
    areas = [pyramid.tile(top, column, 0)[0] for column in range(3)]
    assert [(area.x, area.x + area.width) for area in areas] == [(1000, 1255), (1253, 1509), (1507, 1600)]
    assert pyramid.tile(top - 1, 1, 0) == (Area(1506, 500, 94, 300), (47, 150))


@pytest.mark.parametrize("address", [(-1, 0, 0), (11, 0, 0), (10, 3, 0), (10, 0, 2), (10, -1, 0), (0, 0, 1)])
def test_a_tile_outside_the_pyramid_is_an_error(address: tuple[int, int, int]) -> None:
    with pytest.raises(TileError, match=r"there is no level|has no tile"):
        DeepZoom(Area(0, 0, 600, 300)).tile(*address)


def test_a_real_slides_tiles_are_openslides_own(shared_data) -> None:
    path = str(shared_data / "slides/CMU-1-Small-Region.svs")
    width, height = dimensions(path)
    whole = Area(0, 0, width, height)
    with openslide.OpenSlide(path) as slide:
        theirs = DeepZoomGenerator(slide, tile_size=254, overlap=1, limit_bounds=True)
        top = theirs.level_count - 1
        for address in [(0, 0), (3, 4), (8, 11)]:  # at full resolution: the very pixels
            (x, y), _, size = theirs.get_tile_coordinates(top, address)
            pixels = read_tile(path, whole, top, *address)
            assert (pixels == np.asarray(slide.read_region((x, y), 0, size).convert("RGB"))).all()
        for level, address in [(top - 1, (2, 3)), (top - 2, (1, 1)), (top - 3, (0, 0)), (8, (0, 0))]:
            tile = np.asarray(theirs.get_tile(level, address).convert("RGB")).astype(int)
            pixels = read_tile(path, whole, level, *address)
            assert pixels.shape == tile.shape
            inner = (slice(2, -2), slice(2, -2))
            assert abs(pixels.astype(int) - tile)[inner].mean() < 6  # another filter; tiles beside it differ by 20


def test_a_thumbnail_shows_the_whole_area_in_its_own_shape(write_slide, tmp_path) -> None:
    pixels = np.zeros((300, 800, 3), np.uint8)
    pixels[:, :400] = 200
    path = write_slide(tmp_path / "half.tif", pixels)
    thumbnail = read_thumbnail(path, Area(200, 0, 400, 300), 100)
    assert thumbnail.shape == (75, 100, 3)
    assert (thumbnail[:, :49] == 200).all()
    assert (thumbnail[:, 51:] == 0).all()
    assert read_thumbnail(path, Area(0, 0, 800, 300), 1000).shape == (300, 800, 3)
    assert read_thumbnail(path, Area(0, 0, 800, 1), 100).shape == (1, 100, 3)
