from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile
from PIL import Image
from support import grows_in_proportion

from lake.heatmap import probability_colors, render_heatmap, save_png
from lake.heatmap_frame import BANNER, BANNER_PAPER, SMALLEST_WIDTH, scale_bar
from lake.lettering import font, wrap
from udfs.errors import HistolakeError, SlideError
from udfs.slide import Area

BELOW_PICTURE = 130  # output pixels of margin, legend and banner
SQUARE = (1000, 500, 1400, 700)  # level-0 left, top, right, bottom of the black rectangle


def write_slide(path: Path, pixels: np.ndarray) -> str:
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None)
    return str(path)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """White, 2000 x 1200, with one black rectangle."""
    pixels = np.full((1200, 2000, 3), 255, np.uint8)
    left, top, right, bottom = SQUARE
    pixels[top:bottom, left:right] = 0
    return write_slide(tmp_path_factory.mktemp("slides") / "square.tif", pixels)


@pytest.fixture(scope="module")
def gray_slide(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_slide(tmp_path_factory.mktemp("slides") / "gray.tif", np.full((600, 800, 3), 200, np.uint8))


def tiles(*rows: tuple[float, ...]) -> pl.DataFrame:
    columns = ["x", "y", "span_x", "span_y", "probability"]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.Float64), orient="row")


def picture_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image)[:-BELOW_PICTURE].astype(int)


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def is_colored(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=2) - picture.min(axis=2) > 60


def is_square(picture: np.ndarray) -> np.ndarray:
    """Mark the slide's black rectangle: a large dark area, not the thin strokes of the title."""
    dark = picture.max(axis=2) < 128
    dark[:60] = False
    return dark


@pytest.mark.parametrize(
    ("mpp", "region", "long_edge_px"),
    [
        ((0.5, 0.5), None, 1600),
        ((0.5, 0.25), None, 1600),
        ((0.25, 0.4), None, 1333),
        (None, None, 777),
        ((0.5, 0.5), Area(903.5, 411.25, 601, 333), 1600),
        ((0.5, 0.31), Area(-100, -50, 1900, 1100), 900),
    ],
)
def test_a_tile_is_drawn_within_one_pixel_of_the_tissue_that_it_covers(slide, mpp, region, long_edge_px):
    left, top, right, bottom = SQUARE
    shape = {"mpp_x": mpp[0] if mpp else None, "mpp_y": mpp[1] if mpp else None}
    shape |= {"title": "s", "region": region, "long_edge_px": long_edge_px}
    bare = render_heatmap(slide, tiles((left + 50, top + 50, 2, 2, 0.5)), **shape)
    covered = render_heatmap(slide, tiles((left, top, right - left, bottom - top, 1.0)), **shape)
    truth = box_of(is_square(picture_of(bare)))
    drawn = box_of(is_colored(picture_of(covered)))
    assert np.abs(np.subtract(drawn, truth)).max() <= 1
    mpp_x, mpp_y = mpp or (1, 1)
    area = region or Area(0, 0, 2000, 1200)
    zoom = min(long_edge_px / max(area.width * mpp_x, area.height * mpp_y), 4 / max(mpp_x, mpp_y))
    assert drawn[2] - drawn[0] == pytest.approx(400 * mpp_x * zoom, abs=1.5)
    assert drawn[3] - drawn[1] == pytest.approx(200 * mpp_y * zoom, abs=1.5)


def test_the_tissue_stays_visible_below_a_tile(slide):
    image = render_heatmap(slide, tiles((900, 400, 600, 400, 0.5)), title="s", mpp_x=0.5, mpp_y=0.5)
    colored = picture_of(image)[is_colored(picture_of(image))]
    inside, outside = colored.min(axis=0), colored.max(axis=0)
    assert (outside - inside).min() > 100


def test_a_pixels_color_is_the_legends_color_at_its_probability(gray_slide):
    image = render_heatmap(gray_slide, tiles((0, 0, 800, 600, 0.75)), title="s", mpp_x=1, mpp_y=1)
    pixels = np.asarray(image).astype(int)
    legend_row = image.height - BELOW_PICTURE + 20 + 20 + 8
    legend = pixels[legend_row, 20 + round(0.75 * 259)]
    assert np.abs(legend - pixels[300, image.width // 2]).max() <= 6


def test_overlapping_tiles_show_the_mean_of_their_probabilities(gray_slide):
    def middle(*rows: tuple[float, ...]) -> np.ndarray:
        image = render_heatmap(gray_slide, tiles(*rows), title="s", mpp_x=1, mpp_y=1)
        return np.asarray(image)[300, image.width // 2]

    whole = (0, 0, 800, 600)
    overlapped = middle((*whole, 0.9), (*whole, 0.1), (300, 200, 200, 200, 0.5))
    assert (overlapped == middle((*whole, 0.5))).all()
    assert (overlapped != middle((*whole, 0.9))).any()


def test_neighbouring_tiles_leave_no_seam_and_do_not_overlap(gray_slide):
    grid = [(x * 37.3, y * 37.3, 37.3, 37.3, 1.0) for x in range(1, 10) for y in range(1, 10)]
    image = render_heatmap(gray_slide, tiles(*grid), title="s", mpp_x=1, mpp_y=1, long_edge_px=517)
    picture = picture_of(image)
    left, top, right, bottom = box_of(is_colored(picture))
    assert len(np.unique(picture[top:bottom, left:right].reshape(-1, 3), axis=0)) == 1


def test_a_tile_smaller_than_an_output_pixel_is_still_drawn(gray_slide):
    image = render_heatmap(gray_slide, tiles((401, 301, 1, 1, 1.0)), title="s", mpp_x=1, mpp_y=1, long_edge_px=100)
    assert is_colored(picture_of(image)).sum() == 1


def test_tint_reddens_each_tiles_own_pixels_in_proportion_to_its_probability(gray_slide):
    rows = [(200 * index, 0, 200, 600, probability) for index, probability in enumerate((0.0, 0.25, 0.5, 1.0))]
    image = render_heatmap(gray_slide, tiles(*rows), title="s", mpp_x=1, mpp_y=1, tint=True)
    pixels = np.asarray(image).astype(int)
    centers = [20 + 200 * index * 2 + 200 for index in range(4)]
    green = [pixels[400, center, 1] for center in centers]
    assert green[0] == 200
    lost = np.subtract(200, green)
    assert lost[1] == pytest.approx(lost[3] / 4, abs=1)
    assert lost[2] == pytest.approx(lost[3] / 2, abs=1)
    assert pixels[400, centers[3], 0] > 200


def test_a_small_slide_is_enlarged_four_times_at_most(tmp_path):
    path = write_slide(tmp_path / "small.tif", np.full((300, 400, 3), 200, np.uint8))
    image = render_heatmap(path, tiles((0, 0, 400, 300, 1.0)), title="s", mpp_x=0.5, mpp_y=0.5, long_edge_px=9000)
    left, top, right, bottom = box_of(is_colored(picture_of(image)))
    assert (right - left, bottom - top) == (1600, 1200)


@pytest.mark.parametrize("region", [Area(0, 0, 2000, 4), Area(0, 0, 3, 1200)])
def test_long_thin_pictures_keep_room_for_their_text(slide, region):
    image = render_heatmap(slide, tiles(), title="s", mpp_x=0.5, mpp_y=0.5, region=region)
    assert image.width >= SMALLEST_WIDTH
    assert image.height >= BELOW_PICTURE + 72


def test_without_tiles_the_picture_says_so(gray_slide):
    nothing = render_heatmap(gray_slide, tiles(), title="s", mpp_x=0.5, mpp_y=0.5)
    unscored = tiles((0, 0, 10, 10, 0.5)).with_columns(probability=pl.lit(None, pl.Float64))
    elsewhere = tiles((5000, 5000, 10, 10, 0.5))
    assert not is_colored(picture_of(nothing)).any()
    left, top, right, bottom = box_of(picture_of(nothing)[60:].max(axis=2) < 100)
    assert (right + left) / 2 == pytest.approx(nothing.width / 2, abs=2)
    assert right - left > 150
    assert bottom - top < 30
    for same in (unscored, elsewhere):
        assert np.array_equal(nothing, render_heatmap(gray_slide, same, title="s", mpp_x=0.5, mpp_y=0.5))


def test_time_grows_with_the_tiles_and_not_with_their_square(slide):
    def draw(count: int) -> None:
        rng = np.random.default_rng(0)
        many = pl.DataFrame({"x": rng.uniform(0, 1900, count), "y": rng.uniform(0, 1100, count)}).with_columns(
            span_x=pl.lit(20.0), span_y=pl.lit(20.0), probability=pl.Series(rng.random(count))
        )
        render_heatmap(slide, many, title="s", mpp_x=0.5, mpp_y=0.5)

    assert grows_in_proportion(draw, 10_000)


def test_the_banner_is_in_the_pixels_and_in_the_file_with_the_title(slide, tmp_path):
    title = "slide O'Brien · Modell für Tumor µ"
    image = render_heatmap(slide, tiles(), title=title, mpp_x=0.5, mpp_y=0.5)
    strip = np.asarray(image)[-30:]
    assert (strip == BANNER_PAPER).all(axis=2).mean() > 0.5
    assert (strip.min(axis=2) > 200).sum() > 300
    save_png(image, tmp_path / "heatmap.png")
    with Image.open(tmp_path / "heatmap.png") as stored:
        stored.load()
        assert stored.text == {"Title": title, "Disclaimer": "Research use only. Not for diagnosis."}
    assert BANNER == "Research use only. Not for diagnosis."


def test_the_scale_bar_is_as_long_as_it_says(slide):
    image = render_heatmap(slide, tiles((0, 0, 10, 10, 0.5)), title="s", mpp_x=0.5, mpp_y=0.25)
    row = np.asarray(image)[image.height - BELOW_PICTURE + 20 + 20 + 8, image.width // 2 :].max(axis=1)
    zoom = 1600 / 1000  # output pixels a micron: the slide is 1000 microns wide
    assert scale_bar(1 / zoom) == (pytest.approx(100 * zoom), "100 µm")
    assert (row < 60).sum() == pytest.approx(100 * zoom, abs=1)


@pytest.mark.parametrize(
    ("microns_per_px", "name"), [(0.0021, "200 nm"), (0.05, "10 µm"), (0.5, "100 µm"), (5, "1 mm"), (50, "10 mm")]
)
def test_the_scale_bar_has_a_round_length_that_fits(microns_per_px, name):
    length, written = scale_bar(microns_per_px)
    assert written == name
    assert 80 - 1e-6 <= length <= 200 + 1e-6


def test_without_mpp_there_is_no_scale_bar(slide):
    with_bar = render_heatmap(slide, tiles((0, 0, 10, 10, 0.5)), title="s", mpp_x=1, mpp_y=1)
    for mpp_x, mpp_y in ((None, None), (1, None), (0, 0)):
        without = render_heatmap(slide, tiles((0, 0, 10, 10, 0.5)), title="s", mpp_x=mpp_x, mpp_y=mpp_y)
        differing = np.asarray(without).astype(int) - np.asarray(with_bar)
        assert box_of(np.abs(differing).max(axis=2) > 0)[1] >= without.height - BELOW_PICTURE
        row = np.asarray(without)[without.height - BELOW_PICTURE + 48, without.width // 2 :]
        assert (row == 255).all()


@pytest.mark.parametrize("title", ["word " * 100, "x" * 400, "TCGA-" + "A" * 90 + " model " + "b" * 200])
def test_long_titles_are_wrapped_and_keep_every_letter(slide, title):
    lines = wrap(title, font(18, is_bold=True), 500)
    assert all(font(18, is_bold=True).getlength(line) <= 500 for line in lines)
    assert "".join(lines).replace(" ", "") == title.replace(" ", "")
    image = render_heatmap(slide, tiles(), title=title, mpp_x=0.5, mpp_y=0.5, region=Area(0, 0, 100, 100))
    frame = np.asarray(image)[:-BELOW_PICTURE]
    assert (frame[:, :18] == 255).all()
    assert (frame[:, -18:] == 255).all()


def test_the_color_map_grows_lighter_with_probability_and_is_not_clipped():
    colors = probability_colors(np.linspace(0, 1, 101))
    assert colors.shape == (101, 3)
    assert colors.dtype == np.uint8
    lightness = colors @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > -0.5).all()
    assert lightness[-1] - lightness[0] > 150


@pytest.mark.parametrize("region", [Area(2000, 0, 10, 10), Area(0, -50, 10, 50), Area(0, 0, 0, 10)])
def test_a_region_off_the_slide_is_refused_with_the_slides_size(slide, region):
    with pytest.raises(HistolakeError, match=r"square\.tif: the region .* 2000 x 1200"):
        render_heatmap(slide, tiles(), title="s", mpp_x=1, mpp_y=1, region=region)


def test_wrong_tiles_and_unreadable_slides_are_refused(slide):
    with pytest.raises(HistolakeError, match="span_x, probability"):
        render_heatmap(slide, tiles().drop("span_x", "probability"), title="s", mpp_x=1, mpp_y=1)
    with pytest.raises(HistolakeError, match=r"3\.5 is no probability"):
        render_heatmap(slide, tiles((0, 0, 10, 10, 3.5)), title="s", mpp_x=1, mpp_y=1)
    with pytest.raises(SlideError, match=r"gone\.tif"):
        render_heatmap("gone.tif", tiles(), title="s", mpp_x=1, mpp_y=1)
