import csv
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run

from udfs import tissue
from udfs.errors import SlideError
from udfs.registry import rows_seen
from udfs.slide import read_area
from udfs.tissue import TissueMap, glass_colour, optical_density, tissue_map

GLASS, STAIN = (243, 241, 244), (170, 80, 150)


def painted(width: int, height: int, *boxes: tuple[int, int, int, int], colour=STAIN) -> np.ndarray:
    """A slide of glass with stained boxes (x, y, width, height)."""
    pixels = np.full((height, width, 3), GLASS, np.uint8)
    for x, y, across, down in boxes:
        pixels[y : y + down, x : x + across] = colour
    return pixels


@pytest.fixture(autouse=True)
def _measure_anew():
    tissue._maps.clear()


def integral_of(is_tissue: np.ndarray) -> np.ndarray:
    return np.pad(is_tissue.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0))).astype(np.int32)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    corner=st.tuples(st.integers(-30, 60), st.integers(-30, 60)),
    spans=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_the_fraction_of_a_rectangle_is_what_counting_its_pixels_gives(seed, shape, corner, spans):
    is_tissue = np.random.default_rng(seed).random(shape) < 0.5
    step_x, step_y = 4, 3
    full = np.kron(is_tissue, np.ones((step_y, step_x)))  # a map pixel spread over the level-0 pixels it stands for
    (x, y), (width, height) = corner, spans
    inside = full[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)].sum()
    measured = TissueMap(integral_of(is_tissue), step_x, step_y)
    found = measured.fraction(*(np.array([value], float) for value in (x, y, width, height)))
    assert found[0] == pytest.approx(inside / (width * height), abs=1e-9)


def test_tissue_is_found_where_it_is_and_nowhere_else(con, tmp_path, write_slide):
    path = write_slide(tmp_path / "box.tif", painted(400, 300, (100, 100, 100, 100)))
    squares = pa.table({"x": [0, 100, 150, 100, 350, 300], "y": [0, 100, 100, 50, 250, 0]})
    con.register("squares", squares)
    rows = con.execute("select tissue_fraction(?, x, y, 100, 100, 0.05) from squares", [path]).fetchall()
    assert [round(fraction, 1) for (fraction,) in rows] == [0, 1, 0.5, 0.5, 0, 0]


def test_a_rectangle_half_outside_the_slide_is_at_most_half_tissue(con, tmp_path, write_slide):
    path = write_slide(tmp_path / "box.tif", painted(400, 300, (0, 0, 150, 300)))
    (found,) = con.execute("select tissue_fraction(?, -50, 100, 100, 100, 0.05)", [path]).fetchone()
    assert found == pytest.approx(0.5, abs=0.01)


def test_a_rectangle_without_size_has_no_fraction(con, tmp_path, write_slide):
    path = write_slide(tmp_path / "box.tif", painted(64, 64))
    query = "select tissue_fraction($1, 0, 0, 0, 5, 0.05), tissue_fraction($1, 0, 0, 'nan', 5, 0.05)"
    assert con.execute(query, [path]).fetchone() == (None, None)


def test_each_threshold_and_slide_of_a_batch_has_its_own_map(con, tmp_path, write_slide):
    faint = write_slide(tmp_path / "faint.tif", painted(100, 100, (0, 0, 40, 100), colour=(225, 215, 226)))
    dense = write_slide(tmp_path / "dense.tif", painted(100, 100, (0, 0, 50, 100)))
    con.register("asked", pa.table({"path": [faint, dense, faint, dense], "od": [0.02, 0.02, 0.2, 0.2]}))
    rows = con.execute("select tissue_fraction(path, 0, 0, 40, 100, od) from asked").fetchall()
    assert [round(fraction) for (fraction,) in rows] == [1, 1, 0, 1]


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 5), (1, 300)])
def test_tiny_slides_are_measured(tmp_path, write_slide, size):
    path = write_slide(tmp_path / "tiny.tif", np.full((size[1], size[0], 3), STAIN, np.uint8))
    whole = [np.array([value], float) for value in (0, 0, *size)]
    assert tissue_map(path, 0.05).fraction(*whole)[0] == pytest.approx(1)


def test_glass_is_the_commonest_bright_grey_and_not_white_padding():
    pixels = painted(100, 100, (0, 0, 30, 100))
    pixels[:, 60:] = 255
    assert glass_colour(pixels).tolist() == list(GLASS)
    assert glass_colour(np.full((9, 9, 3), 255, np.uint8)).tolist() == [255, 255, 255]
    assert glass_colour(np.zeros((9, 9, 3), np.uint8)).tolist() == [255, 255, 255]


def test_optical_density_is_none_for_glass_and_for_a_black_border():
    pixels = painted(90, 30, (30, 0, 30, 30))
    pixels[:, 60:] = 5
    density = optical_density(pixels, np.array(GLASS, np.float32))
    red, green, blue = (-np.log10(STAIN[channel] / GLASS[channel]) for channel in range(3))
    assert density[15, 15] == 0
    assert density[15, 45] == pytest.approx((red + green + blue) / 3 + 2 * (green - min(red, blue)), rel=1e-4)
    assert density[15, 75] == 0


def test_optical_density_does_not_depend_on_the_strips_it_is_computed_in(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    whole = optical_density(pixels, np.array(GLASS, np.float32))
    monkeypatch.setattr(tissue, "STRIP", 7)
    assert (optical_density(pixels, np.array(GLASS, np.float32)) == whole).all()


def test_two_slides_are_measured_at_once(tmp_path, write_slide, monkeypatch):
    paths = [write_slide(tmp_path / f"{name}.tif", painted(64, 64, (0, 0, 32, 64))) for name in "ab"]
    both_reading = threading.Barrier(2, timeout=60)
    monkeypatch.setattr(tissue, "read_area", lambda *args: (both_reading.wait(), read_area(*args))[1])
    with ThreadPoolExecutor(2) as pool:
        maps = list(pool.map(tissue_map, paths, (0.05, 0.05)))
    assert [one.fraction(*np.array([[0], [0], [30], [64]], float))[0] for one in maps] == [1, 1]


def test_a_slide_is_measured_once_however_many_threads_ask(tmp_path, write_slide, monkeypatch):
    path = write_slide(tmp_path / "one.tif", painted(64, 64))
    asked: list[str] = []
    started = threading.Event()

    def slow_read(*args):
        asked.append(args[0])
        started.wait(0.2)  # the others come meanwhile
        return read_area(*args)

    monkeypatch.setattr(tissue, "read_area", slow_read)
    with ThreadPoolExecutor(8) as pool:
        maps = list(pool.map(lambda _: tissue_map(path, 0.05), range(16)))
    assert asked == [path]
    assert all(one is maps[0] for one in maps)


def test_threads_that_wait_for_a_slide_that_fails_get_the_error_and_it_is_tried_again(tmp_path, write_slide):
    path = tmp_path / "slide.tif"
    path.write_text("not a slide")
    with ThreadPoolExecutor(4) as pool:
        errors = [one.exception() for one in [pool.submit(tissue_map, str(path), 0.05) for _ in range(8)]]
    assert {type(error) for error in errors} == {SlideError}
    assert not tissue._maps
    write_slide(path, painted(64, 64, (0, 0, 64, 64)))
    assert tissue_map(str(path), 0.05).integral[-1, -1] == 32 * 32


def test_a_slide_replaced_on_disk_is_measured_anew(tmp_path, write_slide):
    path = tmp_path / "slide.tif"
    before = tissue_map(write_slide(path, painted(64, 64)), 0.05)
    after = tissue_map(write_slide(path, painted(64, 64, (0, 0, 64, 64))), 0.05)
    assert (before.integral[-1, -1], after.integral[-1, -1]) == (0, 32 * 32)


def test_only_the_slides_used_last_are_kept(tmp_path, write_slide):
    for number in range(tissue.MAPS_KEPT + 3):
        tissue_map(write_slide(tmp_path / f"{number}.tif", painted(64, 64)), 0.05)
    assert len(tissue._maps) == tissue.MAPS_KEPT


def test_a_missing_slide_is_named(con):
    with pytest.raises(duckdb.InvalidInputException, match=r"/no/such\.tif: No such file or directory; was the slide"):
        con.execute("select tissue_fraction('/no/such.tif', 0, 0, 1, 1, 0.05)").fetchone()


def test_what_cannot_be_read_counts_as_tissue_so_that_its_patches_are_seen_to_fail(tmp_path, write_slide, monkeypatch):
    monkeypatch.setattr(tissue, "PIECE", 32)  # px of the map: one tile
    path = write_slide(
        tmp_path / "torn.tif", painted(512, 512, (448, 448, 64, 64)), compression="jpeg", corrupt=((0, 27),)
    )
    squares = [np.array(values, float) for values in ([192, 0, 448], [192, 0, 448], [64, 64, 64], [64, 64, 64])]
    torn, glass, stained = tissue_map(path, 0.05).fraction(*squares)
    assert (torn, glass) == (1, 0)
    assert stained > 0.95


def test_a_slide_of_which_nothing_can_be_read_is_an_error(tmp_path, write_slide):
    every = tuple((0, number) for number in range(4))
    path = write_slide(tmp_path / "torn.tif", painted(128, 128), compression="jpeg", corrupt=every)
    with pytest.raises(SlideError, match="cannot read"):
        tissue_map(path, 0.05)


def test_a_fraction_that_is_filtered_on_and_selected_is_measured_once_a_row(con, tmp_path, write_slide):
    """As sql/patches.sql does it."""
    path = write_slide(tmp_path / "box.tif", painted(400, 300, (100, 100, 100, 100)))
    rows = con.execute(
        """
        with measured as materialized (
            select x, tissue_fraction($1, x, 100, 50, 50, 0.05) as tissue from range(350) as t (x)
        )
        select x, tissue from measured where tissue >= 0.99 order by x
        """,
        [path],
    ).fetchall()
    assert 100 in [x for x, _ in rows]
    assert len(rows) < 60
    assert rows_seen["tissue_fraction"] == 350


@pytest.fixture(scope="module")
def mosaic(shared_data, tmp_path_factory):
    tool = shared_data.parent / "tools" / "mosaic.py"
    patches = shared_data / "pcam" / "train.parquet"
    if not tool.is_file() or not patches.is_file():
        pytest.skip(f"slides of real patches cannot be made: {tool} and {patches} are needed")
    out = tmp_path_factory.mktemp("mosaic")
    words = ["--patches", patches, "--out", out, "--tumor", "1", "--normal", "1"]
    run([sys.executable, tool, *words], check=True)
    return out


def test_real_tissue_is_found_and_its_background_is_not(con, mosaic):
    """Two slides of 1,024 cells of 96 px: at most one cell of real tissue missed, no cell of glass taken."""
    with (mosaic / "truth.csv").open() as file:
        truth = {(row["slide"], int(row["x"]), int(row["y"])) for row in csv.DictReader(file)}
    rows = con.execute(
        """
        with measured as materialized (
            select s.slide, x, y, tissue_fraction($1 || '/' || s.slide || '.tif', x, y, 96, 96, 0.05) as tissue
            from (values ('tumor_001'), ('normal_001')) as s (slide),
                range(0, 3072, 96) as xs (x), range(0, 3072, 96) as ys (y)
        )
        select slide, x, y from measured where tissue >= 0.05
        """,
        [str(mosaic)],
    ).fetchall()
    found = set(rows)
    assert len(truth) > 800
    assert not found - truth
    assert len(truth - found) <= 1
