from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import tifffile
from PIL import Image

from lake.contact_sheet import OUTLINE, show
from udfs.errors import HistolakeError

GREEN = (90, 180, 0)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Gray, 2000 x 2000, with one green square of 100 px at (500, 700)."""
    pixels = np.full((2000, 2000, 3), 180, np.uint8)
    pixels[700:800, 500:600] = GREEN
    path = tmp_path_factory.mktemp("slides") / "green.tif"
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None)
    return str(path)


def patches(slide: str, count: int = 1, **columns: object) -> pl.DataFrame:
    row = {"path": slide, "x": 500, "y": 700, "span_x": 100, "span_y": 100, "mpp_x": 0.5, "mpp_y": 0.5}
    return pl.DataFrame([row | columns] * count)


def is_near(sheet: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(np.asarray(sheet).astype(int) - color).max(axis=2) <= 60


def boxes_of(sheet: Image.Image, color: tuple[int, int, int]) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of each run of columns that has this color, left to right."""
    is_color = is_near(sheet, color)
    columns = np.flatnonzero(np.diff(np.pad(is_color.any(axis=0), 1).astype(int)))
    boxes = []
    for left, right in zip(columns[::2].tolist(), columns[1::2].tolist(), strict=True):
        rows = np.flatnonzero(is_color[:, left:right].any(axis=1))
        boxes.append((left, int(rows[0]), right, int(rows[-1]) + 1))
    return boxes


def sizes_of(boxes: list[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    return [(right - left, bottom - top) for left, top, right, bottom in boxes]


def test_each_patch_fills_its_square_and_columns_limit_a_row(slide):
    sheet = show(patches(slide, 5), columns=3, patch_px=80)
    boxes = boxes_of(sheet, GREEN)
    assert [right - left for left, _, right, _ in boxes] == [80, 80, 80]
    rows = is_near(sheet, GREEN).sum(axis=1)
    assert set(rows.tolist()) == {0, 2 * 80, 3 * 80}
    assert (rows == 3 * 80).sum() == (rows == 2 * 80).sum() == 80


def test_several_resolutions_show_one_center_side_by_side_with_its_own_extent_outlined(slide):
    sheet = show(patches(slide), mpp=[0.25, 0.5, 1, 2], patch_px=160)
    # 50 microns are 200, 100, 50 and 25 px in the views; the first is larger than its view, an outline is 2 px wide.
    assert sizes_of(boxes_of(sheet, GREEN)) == [(160, 160), (96, 96), (46, 46), (21, 21)]
    outlines = boxes_of(sheet, OUTLINE)
    assert sizes_of(outlines) == [(100, 100), (50, 50), (25, 25)]
    centers = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in outlines]
    steps = [second[0] - first[0] for first, second in pairwise(centers)]
    assert all(step == pytest.approx(170, abs=1) for step in steps)
    assert all(center[1] == pytest.approx(centers[0][1], abs=1) for center in centers)


def test_every_column_is_headed_by_its_resolution(slide):
    sheet = show(patches(slide), mpp=[0.25, 0.5], patch_px=160)
    left, top, right, _ = boxes_of(sheet, GREEN)[0]
    heads = np.asarray(sheet)[top - 18 : top, left : right + 170].min(axis=2) < 100
    assert heads[:, :160].sum() > 100
    assert heads[:, 160:170].sum() == 0
    assert heads[:, 170:].sum() > 80


def test_a_view_of_the_patchs_own_extent_is_not_outlined(slide):
    assert boxes_of(show(patches(slide), mpp=[50 / 160], patch_px=160), OUTLINE) == []


def test_microns_per_pixel_of_each_axis_are_kept_apart(slide):
    sheet = show(patches(slide, mpp_x=1.0, mpp_y=0.5), mpp=[1.0], patch_px=160)
    assert sizes_of(boxes_of(sheet, OUTLINE)) == [(100, 50)]


def test_an_unreadable_patch_is_hatched_and_the_others_are_shown(slide):
    frame = pl.concat([patches("gone.tif"), patches(slide)])
    sheet = show(frame, patch_px=120)
    (box,) = boxes_of(sheet, GREEN)
    assert sizes_of([box]) == [(120, 120)]
    hatched = np.asarray(sheet)[box[1] : box[3], box[0] - 130 : box[0] - 10].astype(int)
    assert hatched.shape == (120, 120, 3)
    assert (hatched.max(axis=2) - hatched.min(axis=2)).max() < 12
    assert (hatched[:40] == (196, 200, 206)).all(axis=2).mean() == pytest.approx(0.25, abs=0.05)
    assert (hatched[50:70].max(axis=2) < 90).sum() > 80


@pytest.mark.parametrize(("column", "value"), [("label", 1), ("probability", 0.93), ("error", "tile 7 is truncated")])
def test_what_is_known_of_a_patch_is_written_below_it(slide, column, value):
    bare, told = show(patches(slide), patch_px=200), show(patches(slide, **{column: value}), patch_px=200)
    assert told.height > bare.height
    ink = np.asarray(told)[bare.height - 16 :].min(axis=2) < 150
    assert ink.sum() > 40


def test_captions_stay_within_their_patch_and_long_errors_are_shortened(slide):
    frame = patches(slide, 2, error="/a/very/long/path/to/a/slide.tif: " + "cannot read this region " * 40)
    sheet = show(frame, patch_px=160)
    (first, second) = boxes_of(sheet, GREEN)
    gap = np.asarray(sheet)[first[3] :, first[2] : second[0]]
    assert (gap == 255).all()
    assert sheet.height < first[3] + 200


def test_the_header_names_every_slide(slide):
    def ink(*slide_ids: str) -> int:
        sheet = show(pl.concat([patches(slide, slide_id=name) for name in slide_ids]), patch_px=160)
        return int((np.asarray(sheet)[:40].min(axis=2) < 100).sum())

    assert ink("a", "bb") > ink("a", "a") > 100


def test_an_empty_frame_is_refused(slide):
    with pytest.raises(HistolakeError, match="widen its filter"):
        show(patches(slide).clear())


def test_missing_columns_are_listed_and_mpp_columns_only_where_they_are_needed(slide):
    bare = patches(slide).drop("mpp_x", "mpp_y")
    assert show(bare).width > 160
    with pytest.raises(HistolakeError, match="mpp_x, mpp_y"):
        show(bare, mpp=[0.5])
    with pytest.raises(HistolakeError, match="path, span_y"):
        show(bare.drop("path", "span_y"))


def test_resolutions_that_make_no_sense_are_refused(slide):
    with pytest.raises(HistolakeError, match="above 0"):
        show(patches(slide), mpp=[0.5, 0])
    with pytest.raises(HistolakeError, match=r"green\.tif: its mpp is unknown"):
        show(patches(slide).with_columns(mpp_y=pl.lit(None, pl.Float64)), mpp=[0.5])
