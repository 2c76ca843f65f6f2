import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from udfs import slide, slide_pixels, slide_readers
from udfs.areas import Cut
from udfs.errors import SlideError
from udfs.registry import rows_seen
from udfs.slide import Area, dimensions, file_state, metadata, read_area
from udfs.slide_pixels import Slides

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
LEVELS = {  # sizes of the levels of slides whose colour is their position
    "whole": [(120, 96), (30, 24)],
    "fractional": [(101, 83), (67, 55), (25, 21)],
    "uneven": [(113, 97), (28, 24), (7, 6)],
    "single": [(110, 90)],
}


def flat(width: int, height: int, colour: tuple[int, int, int] | int) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def gradient(width: int, height: int) -> np.ndarray:
    """Red grows with x and green with y, from 20 at one edge to 220 at the other."""
    pixels = np.full((height, width, 3), 128.0)
    pixels[..., 0] = 20 + 200 * (np.arange(width) + 0.5) / width
    pixels[..., 1] = (20 + 200 * (np.arange(height) + 0.5) / height)[:, None]
    return pixels.round().astype(np.uint8)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory, write_slide) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("gradients")
    large = {"large": [(1600, 1200), (400, 300)], "large single": [(900, 700)]}
    return {
        name: write_slide(folder / f"{name}.tif", *(gradient(*size) for size in sizes))
        for name, sizes in (LEVELS | large).items()
    }


def read_here(path: str, area: Area, width: int, height: int) -> np.ndarray:
    """As read_area, in this process, whose constants a test may change."""
    return Slides(2**20).read(path, file_state(path), Cut(area, width, height))


fractions = st.floats(0, 1)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(name="fractional", at=(1.0, 1.0), part=(0.5, 0.5), size=(46, 46))  # touching the last row and column
@example(name="uneven", at=(0.0, 1.0), part=(0.7, 0.7), size=(46, 46))
@example(name="whole", at=(0.0, 0.0), part=(0.25, 0.25), size=(400, 300))
@example(name="single", at=(0.31, 0.7), part=(0.01, 0.01), size=(120, 120))  # enlarged
@given(
    name=st.sampled_from(sorted(LEVELS)),
    at=st.tuples(fractions, fractions),
    part=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    size=st.tuples(st.integers(4, 300), st.integers(4, 300)),
)
def test_every_pixel_has_the_colour_of_the_slide_at_its_own_centre(gradients, name, at, part, size):
    edges = LEVELS[name][0]
    spans = [edge * fraction for edge, fraction in zip(edges, part, strict=True)]
    corner = [(edge - span) * fraction for edge, span, fraction in zip(edges, spans, at, strict=True)]
    pixels = read_area(gradients[name], Area(*corner, *spans), *size)
    found = pixels[size[1] // 2, :, 0], pixels[:, size[0] // 2, 1]
    for values, edge, start, span, count in zip(found, edges, corner, spans, size, strict=True):
        centres = start + (np.arange(count) + 0.5) * span / count
        expected = 20 + 200 * centres / edge
        # 8-bit colours of the slide, of OpenSlide's interpolation and of the filter, each rounded; and the
        # filter's window that ends at the slide's edge: the mean of a triangle cut at half its arm is 0.095 arms off.
        # Elsewhere few coarse samples under the triangle weigh it a little to one side.
        arm = max(1.0, span / count)
        at_edge = (centres < 1.5 * arm) | (centres > edge - 1.5 * arm)
        tolerance = 1.8 + np.where(at_edge, 0.1, 0.03) * arm * 200 / edge
        errors = values - expected
        assert (np.abs(errors) <= tolerance).all(), np.abs(errors).max()
        inside = expected[~at_edge]
        if len(inside) >= 20 and np.ptp(inside) > 15:  # roundings cancel, half a level-0 pixel is over 0.8 grey levels
            assert abs(errors[~at_edge].mean()) < 0.7


def test_a_patch_at_the_slides_own_resolution_is_its_very_pixels(tmp_path, write_slide):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    path = write_slide(tmp_path / "noise.tif", pixels)
    assert (read_area(path, Area(70, 60, 90, 80), 90, 80) == pixels[60:140, 70:160]).all()
    assert (read_area(path, Area(0, 0, 300, 200), 300, 200) == pixels).all()


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path, write_slide):
    path = write_slide(tmp_path / "levels.tif", flat(1000, 800, RED), flat(500, 400, GREEN), flat(250, 200, BLUE))

    def colour_at(scale: float) -> tuple[int, ...]:
        return tuple(read_area(path, Area(100, 100, 100 * scale, 100 * scale), 100, 100)[50, 50])

    assert [colour_at(scale) for scale in (0.5, 1, 1.9, 2, 3.9, 4, 5)] == [RED, RED, RED, GREEN, GREEN, BLUE, BLUE]


def test_a_level_is_fine_enough_only_along_both_axes(tmp_path, write_slide):
    path = write_slide(tmp_path / "levels.tif", flat(1000, 800, RED), flat(500, 400, GREEN))
    assert tuple(read_area(path, Area(0, 0, 400, 100), 100, 100)[50, 50]) == RED


@pytest.mark.parametrize("sizes", [[(301, 203)], [(301, 203), (201, 135)], [(300, 200), (75, 50)]])
@pytest.mark.parametrize("span", [20.3, 64, 100.7, 150])
@pytest.mark.parametrize("input_px", [7, 64, 100])
def test_the_outermost_rows_and_columns_are_not_lightened(tmp_path, write_slide, sizes, span, input_px):
    path = write_slide(tmp_path / "grey.tif", *(flat(*size, 100) for size in sizes))
    width, height = sizes[0]
    for x, y in [(0, 0), (width - span, height - span), (width - span + 0.5, height - span + 0.5), (-0.5, -0.5)]:
        pixels = read_area(path, Area(x, y, span, span), input_px, input_px)
        assert np.abs(pixels.astype(int) - 100).max() <= 1, (x, y)  # OpenSlide rounds where tiles meet


def test_an_area_partly_outside_is_white_there(tmp_path, write_slide):
    path = write_slide(tmp_path / "grey.tif", flat(300, 200, 100), flat(150, 100, 100))
    left = read_area(path, Area(-40, 20, 80, 80), 80, 80)
    assert (left[:, :40] == 255).all()
    assert (left[:, 40:] == 100).all()
    corner = read_area(path, Area(260, 160, 80, 80), 40, 40)
    assert (corner[:20, :20][:-1, :-1] == 100).all()
    assert (corner[20:][1:] == 255).all()
    assert (corner[:, 20:][:, 1:] == 255).all()


@pytest.mark.parametrize("corner", [(-500, 0), (1000, 10), (0, -500), (0, 900), (3_000_000, 3_000_000)])
def test_an_area_wholly_outside_is_white(tmp_path, write_slide, corner):
    path = write_slide(tmp_path / "grey.tif", flat(300, 200, 100))
    assert (read_area(path, Area(*corner, 100, 100), 50, 50) == 255).all()


def test_a_patch_larger_than_the_slide_shows_the_slide_in_its_place(tmp_path, write_slide):
    path = write_slide(tmp_path / "grey.tif", flat(3, 2, 100))
    pixels = read_area(path, Area(-2, -2, 8, 8), 8, 8)
    assert (pixels[2:4, 2:5] == 100).all()
    assert (pixels != 100).all(axis=-1).sum() == 64 - 6


def test_a_slide_of_one_pixel_can_be_read_at_any_size(tmp_path, write_slide):
    path = write_slide(tmp_path / "one.tif", flat(1, 1, 77))
    assert (read_area(path, Area(0, 0, 1, 1), 50, 50) == 77).all()
    assert dimensions(path) == (1, 1)


def test_large_areas_are_read_in_blocks_without_seams(gradients, monkeypatch):
    area = Area(3.3, 2.2, 1500.5, 1100.25)
    whole = read_area(gradients["large"], area, 371, 283)
    monkeypatch.setattr(slide_pixels, "BLOCK_EDGE", 50)
    in_blocks = read_here(gradients["large"], area, 371, 283)
    assert np.abs(whole.astype(int) - in_blocks).max() <= 1


def test_memory_is_bounded_when_a_large_area_becomes_few_pixels(gradients, monkeypatch):
    read: list[int] = []
    block = slide_pixels._resample_block
    monkeypatch.setattr(slide_pixels, "MOST_REDUCTION", 8)
    monkeypatch.setattr(slide_pixels, "BLOCK_EDGE", 32)
    monkeypatch.setattr(
        slide_pixels, "_resample_block", lambda *args: (read.append(args[2].width * args[2].height), block(*args))[1]
    )
    pixels = read_here(gradients["large single"], Area(0, 0, 900, 700), 3, 2)
    assert max(read) <= 33 * 33
    assert np.abs(pixels[0, :, 0] - (20 + 200 * np.array([1, 3, 5]) / 6)).max() < 2


NONSENSE = [
    (float("nan"), 10.0, 8),
    (10.0, float("inf"), 8),
    (0.0, 10.0, 8),
    (10.0, -1.0, 8),
    (1e12, 1e12, 8),
    (10.0, 10.0, 0),
    (10.0, 10.0, -3),
    (10.0, 10.0, 10**6),
]


@pytest.mark.parametrize(("span_x", "span_y", "input_px"), NONSENSE)
def test_an_area_that_makes_no_sense_is_that_rows_error(con, tmp_path, write_slide, span_x, span_y, input_px):
    path = write_slide(tmp_path / "grey.tif", flat(300, 200, 100))
    query = "select image.pixels, image.error from (select crop(?, 0, 0, ?, ?, ?) as image)"
    pixels, error = con.execute(query, [path, span_x, span_y, input_px]).fetchone()
    assert pixels is None
    assert path in error


@pytest.mark.parametrize("name", ["missing.tif", "a\0b.tif", "text.tif", "", "."])
def test_a_file_that_is_no_slide_is_that_rows_error(con, tmp_path, name):
    (tmp_path / "text.tif").write_text("not a slide")
    path = str(tmp_path / name)
    images = pa.table({"path": [path]})
    con.register("images", images)
    pixels, error = con.execute(
        "select i.pixels, i.error from (select crop(path, 0, 0, 8, 8, 8) as i from images)"
    ).fetchone()
    assert pixels is None
    assert str(tmp_path) in error
    assert "\n" not in error


@pytest.fixture
def torn(tmp_path, write_slide) -> str:
    """4 x 3 JPEG tiles of 64 px in different greys, of which the seventh, at (128, 64), is corrupt."""
    greys = np.arange(12).reshape(3, 4) * 20
    pixels = np.repeat(np.kron(greys, np.ones((64, 64))).astype(np.uint8)[..., None], 3, axis=2)
    return write_slide(tmp_path / "torn.tif", pixels, compression="jpeg", corrupt=((0, 6),))


def tile_of(number: int) -> Area:
    return Area(64 * (number % 4) + 8, 64 * (number // 4) + 8, 40, 40)


def test_a_corrupt_tile_is_an_error_and_its_neighbours_are_right(con, torn):
    con.register("tiles", pa.table({"tile": list(range(12))}))
    rows = con.execute(
        """
        select tile, image.pixels, image.error
        from (select *, crop(?, tile % 4 * 64 + 8, tile // 4 * 64 + 8, 40, 40, 40) as image from tiles)
        order by tile
        """,
        [torn],
    ).fetchall()
    for tile, pixels, error in rows:
        if tile == 6:
            assert pixels is None
            assert error.startswith(f"{torn}: cannot read 40 x 40 px at (136, 72)")
        else:
            assert error is None
            assert np.abs(np.frombuffer(pixels, np.uint8).astype(int) - tile * 20).max() <= 2


def test_a_thread_on_a_corrupt_tile_does_not_disturb_the_others(torn):
    barrier = threading.Barrier(4)

    def read(first: int) -> list[str]:
        barrier.wait(60)
        found = []
        for number in [first, 6] * 25:
            try:
                value = read_area(torn, tile_of(number), 20, 20).mean()
                found.append("right" if abs(value - number * 20) < 2 else f"tile {number} has {value}")
            except SlideError:
                found.append("corrupt")
        return found

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(read, (5, 7, 2, 10)))
    assert answers == [["right", "corrupt"] * 25] * 4


def test_a_slide_is_not_condemned_for_its_first_tile(tmp_path, write_slide):
    path = write_slide(tmp_path / "first.tif", flat(256, 128, 90), compression="jpeg", corrupt=((0, 0),))
    assert metadata(path)["width"] == "256"


def test_a_slide_without_a_readable_pixel_is_condemned(tmp_path, write_slide):
    every = tuple((1, number) for number in range(4))
    path = write_slide(tmp_path / "all.tif", flat(256, 256, 90), flat(128, 128, 90), compression="jpeg", corrupt=every)
    with pytest.raises(SlideError, match="opens but cannot be read"):
        metadata(path)


def test_a_slide_written_anew_in_its_place_is_read_anew(tmp_path, write_slide):
    path = tmp_path / "slide.tif"
    assert (read_area(write_slide(path, flat(100, 100, 50)), Area(0, 0, 100, 100), 10, 10) == 50).all()
    assert (read_area(write_slide(path, flat(200, 100, 150)), Area(0, 0, 100, 100), 10, 10) == 150).all()
    assert dimensions(str(path)) == (200, 100)


def test_a_slide_replaced_by_another_of_the_same_size_and_time_is_read_anew(tmp_path, write_slide):
    path, other = tmp_path / "slide.tif", tmp_path / "other.tif"
    write_slide(path, flat(100, 100, 50), compression="none")
    write_slide(other, flat(100, 100, 150), compression="none")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    assert other.stat().st_size == path.stat().st_size
    assert (read_area(str(path), Area(0, 0, 100, 100), 10, 10) == 50).all()
    other.replace(path)
    assert (read_area(str(path), Area(0, 0, 100, 100), 10, 10) == 150).all()


def test_after_a_corrupt_tile_the_slide_is_opened_once_again_and_not_for_every_patch(torn, monkeypatch):
    slides, opened = Slides(2**20), []
    fresh = slides._opened
    monkeypatch.setattr(slides, "_opened", lambda path, file: (opened.append(path), fresh(path, file))[1])
    with pytest.raises(SlideError):
        slides.read(torn, file_state(torn), Cut(tile_of(6), 20, 20))
    for number in (0, 1, 2, 3, 4, 5):
        slides.read(torn, file_state(torn), Cut(tile_of(number), 20, 20))
    assert opened == [torn, torn]


def test_only_so_many_slides_stay_open(tmp_path, write_slide):
    slide_readers.readers.close()
    for number in range(slide_readers.OPEN_SLIDES + 10):
        read_area(write_slide(tmp_path / f"{number}.tif", flat(64, 64, 50)), Area(0, 0, 8, 8), 8, 8)
    [reader] = slide_readers.readers._idle
    folder = Path("/proc") / str(reader.pid) / "fd"
    assert len(reader.has) == slide_readers.OPEN_SLIDES
    if folder.is_dir():
        held = {os.readlink(each) for each in folder.iterdir()}
        assert {name for name in held if name.endswith(".tif")} <= {state[0] for state in reader.has}


def test_a_batch_too_large_for_an_arrow_column_says_so(con, tmp_path, write_slide, monkeypatch):
    monkeypatch.setattr(slide, "MOST_BYTES", 1000)
    path = write_slide(tmp_path / "grey.tif", flat(64, 64, 50))
    with pytest.raises(duckdb.InvalidInputException, match="read fewer, or smaller ones"):
        con.execute("select count(crop(?, x, 0, 16, 16, 16)) from range(9) t(x)", [path]).fetchall()


def test_embed_of_crop_reads_every_patch_once(con, tmp_path, write_slide):
    """The composition of sql/features.sql, whose image is named twice: for its pixels and for its error."""
    path = write_slide(tmp_path / "grey.tif", flat(640, 640, 50))
    seen: list[int] = []

    def embed(pixels: pa.ChunkedArray) -> pa.Array:
        seen.append(len(pixels))
        return pa.array([[float(len(one))] for one in pixels.to_pylist()], pa.list_(pa.float32()))

    con.create_function("embed", embed, ["BLOB"], "FLOAT[]", type="arrow", null_handling="special")
    con.register("slide_patches", pa.table({"path": [path] * 500, "x": list(range(500))}))
    rows = con.execute(
        """
        with images as (select *, crop(path, x, 0, 64, 64, 16) as image from slide_patches)
        select x, embed(image.pixels) as embedding, image.error as error from images
        """
    ).fetchall()
    assert {tuple(embedding) for _, embedding, _ in rows} == {(16 * 16 * 3,)}
    assert rows_seen["crop"] == 500
    assert sum(seen) == 500


def test_a_real_aperio_slide_has_the_pixels_that_tifffile_decodes(shared_data):
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    found = read_area(str(path), Area(700, 900, 300, 200), 300, 200).astype(int)
    with tifffile.TiffFile(path) as tiff:
        expected = tiff.pages[0].asarray()[900:1100, 700:1000]
    assert np.abs(found - expected).mean() < 1


def test_a_real_dicom_slide_can_be_read(shared_data):
    folder = shared_data / "slides" / "multi_frame_jpeg_camelyon_challenge_image"
    path = str(next(folder.glob("*.dcm")))
    pixels = read_area(path, Area(0, 0, 1152, 700), 115, 70)
    assert pixels.std() > 5
