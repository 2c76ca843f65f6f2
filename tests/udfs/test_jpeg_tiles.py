"""Tiles read without OpenSlide have OpenSlide's pixels, or are left to it."""

import io
import itertools

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from lake.pyramid import Level, declare_jpeg, write_levels
from udfs import jpeg_tiles, slide_pixels
from udfs.areas import Cut
from udfs.errors import SlideError
from udfs.jpeg_tiles import JpegTiles, TileCache
from udfs.slide import Area, file_state, metadata, read_area
from udfs.slide_pixels import Slides

WIDTH, HEIGHT = 300, 204
COLOURS = [("rgb", (1, 1)), ("ycbcr", (1, 1)), ("ycbcr", (2, 2)), ("ycbcr", (2, 1))]


def texture(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Smooth and coloured, as tissue is, so that chroma counts."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def write(path, photometric="ycbcr", subsampling=(1, 1), tile=64):
    """Two levels in JPEG, as tifffile writes them: a table for all tiles, and no header in any."""
    with tifffile.TiffWriter(path) as tiff:
        for number, pixels in enumerate([texture(), texture(WIDTH // 2, HEIGHT // 2)]):
            tiff.write(
                pixels,
                tile=(tile, tile),
                photometric="rgb" if photometric == "rgb" else "ycbcr",
                compression="jpeg",
                compressionargs={"level": 85, "outcolorspace": photometric},
                subsampling=subsampling if photometric == "ycbcr" else None,
                subfiletype=min(number, 1),
                metadata=None,
            )
    return str(path)


def openslides(path, x, y, level, width, height):
    with openslide.OpenSlide(path) as handle:
        return np.asarray(handle.read_region((x, y), level, (width, height)).convert("RGB"))


def tiles_of(path, cache=None) -> JpegTiles:
    with openslide.OpenSlide(path) as handle:
        vendor, sizes = handle.properties["openslide.vendor"], handle.level_dimensions
    return JpegTiles(path, vendor, sizes, TileCache(2**24) if cache is None else cache)


RECTANGLES = [(0, 0, 64, 64), (0, 0, WIDTH, HEIGHT), (63, 63, 2, 2), (100, 50, 130, 90), (299, 203, 1, 1)]


@pytest.mark.parametrize(("photometric", "subsampling"), COLOURS)
@pytest.mark.parametrize("tile", [64, 256])
def test_the_pixels_are_openslides_byte_for_byte(tmp_path, photometric, subsampling, tile):
    path = write(tmp_path / "slide.tif", photometric, subsampling, tile)
    tiles = tiles_of(path)
    for x, y, width, height in RECTANGLES:
        found = tiles.read(0, x, y, width, height)
        assert found is not None
        assert np.array_equal(found, openslides(path, x, y, 0, width, height))
    assert np.array_equal(tiles.read(1, 10, 20, 100, 70), openslides(path, 20, 40, 1, 100, 70))


@pytest.mark.parametrize(("photometric", "subsampling"), COLOURS)
def test_patches_are_those_that_openslide_alone_would_give(tmp_path, monkeypatch, photometric, subsampling):
    first, second = (write(tmp_path / f"{name}.tif", photometric, subsampling) for name in "ab")
    areas = [Area(-5, 3, 80, 80), Area(100.5, 60.25, 90.7, 90.7), Area(40, 50, 128, 128), Area(220, 120, 81, 83)]
    sizes = [40, 50, 64, 81, 128]
    quick = [read_area(first, area, size, size) for area, size in itertools.product(areas, sizes)]
    monkeypatch.setattr(jpeg_tiles, "VENDORS", set())
    slides, state = Slides(2**24), file_state(second)
    slow = [slides.read(second, state, Cut(area, size, size)) for area, size in itertools.product(areas, sizes)]
    for a, b in zip(quick, slow, strict=True):
        assert np.array_equal(a, b)


def test_after_the_first_patch_openslide_is_not_asked(tmp_path, monkeypatch):
    path = write(tmp_path / "slide.tif")
    expected = openslides(path, 100, 50, 0, 90, 90)
    slides, state = Slides(2**24), file_state(path)
    slides.read(path, state, Cut(Area(0, 0, 64, 64), 64, 64))
    monkeypatch.setattr(slide_pixels, "_on_white", None)
    assert np.array_equal(slides.read(path, state, Cut(Area(100, 50, 90, 90), 90, 90)), expected)


def test_plain_glass_does_not_tell_how_colours_are_read(tmp_path):
    tiles = tiles_of(write(tmp_path / "slide.tif"))
    glass = np.full((64, 64, 3), (250, 240, 250), np.uint8)
    tiles.compare(0, glass, glass)
    assert not tiles.has_agreed(0)
    tiles.compare(0, texture(64, 64), texture(64, 64))
    assert tiles.has_agreed(0)


def test_a_directory_that_names_absurdly_many_bytes_is_left_to_openslide(tmp_path):
    path = write(tmp_path / "slide.tif")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite([2**31, *tag.value[1:]])
    tiles = tiles_of(path)
    assert tiles.read(0, 0, 0, 10, 10) is None
    assert tiles.read(0, 64, 0, 10, 10) is not None


def test_a_level_whose_tag_and_tiles_name_different_colours_is_left_to_openslide(tmp_path):
    """Tiles that say JFIF, hence YCbCr, under a tag that says RGB: libjpeg believes the one, OpenSlide the other."""
    pixels = texture(256, 256)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", subsampling="4:4:4")
    path = tmp_path / "slide.tif"
    level = Level(256, 256, [encoded.getvalue()])
    write_levels(path, [level], tile_px=256, photometric="rgb", mpp=None, description="a test")
    declare_jpeg(path)
    expected = openslides(str(path), 0, 0, 0, 256, 256)
    found = tiles_of(str(path)).read(0, 0, 0, 256, 256)
    assert found is not None
    assert not np.array_equal(found, expected)
    for _ in range(2):
        assert np.array_equal(read_area(str(path), Area(0, 0, 256, 256), 256, 256), expected)


def test_damaged_tiles_have_openslides_pixels_or_its_error(tmp_path):
    path = write(tmp_path / "slide.tif", tile=256)
    with tifffile.TiffFile(path) as tiff:
        offset, length = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    sound = (tmp_path / "slide.tif").read_bytes()
    rng = np.random.default_rng(1)
    outcomes = set()
    for number in range(80):
        damaged, start = bytearray(sound), offset + int(rng.integers(100, length - 60))
        damaged[start : start + 40] = bytes(40) if number % 2 else rng.bytes(40)
        copy = tmp_path / f"{number}.tif"
        copy.write_bytes(damaged)
        read_area(str(copy), Area(256, 0, 44, 204), 44, 204)  # the other tile: the level is found to agree
        try:
            expected = openslides(str(copy), 0, 0, 0, 200, 200)
        except openslide.OpenSlideError:
            with pytest.raises(SlideError, match="cannot read 200 x 200 px"):
                read_area(str(copy), Area(0, 0, 200, 200), 200, 200)
            outcomes.add("error")
        else:
            assert np.array_equal(read_area(str(copy), Area(0, 0, 200, 200), 200, 200), expected)
            outcomes.add("pixels")
    assert outcomes == {"error", "pixels"}


def test_a_tile_that_is_not_in_the_file_is_left_to_openslide(tmp_path):
    path = write(tmp_path / "slide.tif")
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        tag.overwrite([0, *tag.value[1:]])
    tiles = tiles_of(path)
    assert tiles.read(0, 0, 0, 10, 10) is None
    assert tiles.read(0, 64, 0, 10, 10) is not None


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_a_level_that_names_fewer_tiles_than_it_has_is_refused(tmp_path, write_slide, compression):
    """libtiff fills up the directory with tiles of no bytes, which are glass."""
    path = write_slide(tmp_path / "slide.tif", texture(), compression=compression)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["ImageWidth"].overwrite(10 * WIDTH)
    with openslide.OpenSlide(path) as handle:
        assert handle.read_region((5 * WIDTH, 100), 0, (1, 1)).getpixel((0, 0)) == (0, 0, 0, 0)
    with pytest.raises(SlideError, match=r"of 188 tiles of a level of 3,000 x 204 px it has 20"):
        metadata(path)
    with pytest.raises(SlideError, match="of 188 tiles"):
        read_area(path, Area(5 * WIDTH, 100, 64, 64), 64, 64)


@pytest.mark.parametrize("compression", ["deflate", "none"])
def test_other_compressions_are_left_to_openslide(tmp_path, write_slide, compression):
    path = write_slide(tmp_path / "slide.tif", texture(), compression=compression)
    assert tiles_of(path).read(0, 0, 0, 10, 10) is None


def test_formats_whose_levels_are_not_plain_grids_are_left_to_openslide(tmp_path):
    path = write(tmp_path / "slide.tif")
    assert JpegTiles(path, "ventana", [(WIDTH, HEIGHT)], TileCache(2**24)).read(0, 0, 0, 10, 10) is None


def test_no_more_decoded_tiles_are_kept_than_the_cache_has_room_for(tmp_path):
    cache = TileCache(3 * 64 * 64 * 3)
    tiles_of(write(tmp_path / "slide.tif"), cache).read(0, 0, 0, WIDTH, HEIGHT)
    assert len(cache) == 3


def test_a_real_aperio_slide_has_openslides_pixels(shared_data):
    path = str(shared_data / "slides" / "CMU-1-Small-Region.svs")
    found = tiles_of(path).read(0, 700, 900, 600, 500)
    assert np.array_equal(found, openslides(path, 700, 900, 0, 600, 500))
