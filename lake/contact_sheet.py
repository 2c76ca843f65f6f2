"""Contact sheets: many patches on one picture, each at its own extent or at several resolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from lake.lettering import LINE_HEIGHT, font, wrap
from udfs.errors import HistolakeError, SlideError
from udfs.slide import Area, read_area

PATCH_COLUMNS = ("path", "x", "y", "span_x", "span_y")
MPP_COLUMNS = ("mpp_x", "mpp_y")

MARGIN = 16
GAP = 10  # between cells
TEXT_PX = 12
HEADER_PX = 17
LONGEST_CAPTION = 7  # lines; an error can be a paragraph

PAPER = (255, 255, 255)
INK = (28, 32, 38)
FAINT_INK = (92, 99, 110)
OUTLINE = (0, 114, 178)  # blue of Okabe and Ito: no stain has it
HATCH_PAPER, HATCH_INK = (232, 234, 237), (196, 200, 206)

Row = dict[str, Any]


def show(
    frame: pl.DataFrame, *, mpp: Sequence[float] | None = None, columns: int = 8, patch_px: int = 160
) -> Image.Image:
    """Draw the patches of a frame on one sheet, in the frame's order.

    frame: columns path, x, y, span_x, span_y (top-left corner and size, level-0 pixels), with `mpp`
    also mpp_x, mpp_y (level-0 microns per pixel); slide_id, label, probability and error, where
    present, are written below each patch.
    Without `mpp` each patch fills a square of `patch_px`, `columns` in a row. With `mpp` each row shows
    one patch's center at each of these resolutions, its own extent outlined in the wider views.
    A patch that cannot be read is hatched and says so.

    Returns RGB. Raises HistolakeError for an empty frame, missing columns, or a resolution that is
    not positive.
    """
    resolutions = tuple(mpp or ())
    _validate(frame, resolutions)
    rows = frame.to_dicts()
    slide_ids = list(dict.fromkeys(_slide_id(row) for row in rows))
    header = f"{', '.join(slide_ids)} · {'1 patch' if len(rows) == 1 else f'{len(rows)} patches'}"
    captions = [([_slide_id(row)] if len(slide_ids) > 1 else []) + _captions(row) for row in rows]
    if resolutions:
        views = [[_draw_view(row, value, patch_px) for value in resolutions] for row in rows]
        return _lay_out(header, views, captions, [f"{value:g} mpp" for value in resolutions])
    patches = [[_draw_patch(row, patch_px)] for row in rows]
    return _lay_out(header, patches, captions, [], across=min(columns, len(rows)))


def _validate(frame: pl.DataFrame, resolutions: tuple[float, ...]) -> None:
    wanted = PATCH_COLUMNS + (MPP_COLUMNS if resolutions else ())
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise HistolakeError(f"a contact sheet needs the columns {', '.join(missing)}; join patches with slides")
    if frame.is_empty():
        raise HistolakeError("a contact sheet of no patches: the query returned no row; widen its filter")
    wrong = [value for value in resolutions if not value > 0]
    if wrong:
        raise HistolakeError(f"{wrong[0]:g} microns per pixel cannot be shown; give a number above 0, such as 0.5")
    if resolutions:
        unknown = frame.filter(pl.any_horizontal(pl.col(MPP_COLUMNS).is_null()))
        if not unknown.is_empty():
            path = unknown["path"][0]
            raise HistolakeError(f"{path}: its mpp is unknown, so it cannot be shown at a resolution; leave out mpp")


def _draw_patch(row: Row, patch_px: int) -> Image.Image:
    return _read(row["path"], Area(row["x"], row["y"], row["span_x"], row["span_y"]), patch_px)


def _draw_view(row: Row, mpp: float, patch_px: int) -> Image.Image:
    """Draw what lies around the patch's center at `mpp`, the patch outlined if it is the smaller."""
    width, height = patch_px * mpp / row["mpp_x"], patch_px * mpp / row["mpp_y"]
    area = Area(row["x"] + row["span_x"] / 2 - width / 2, row["y"] + row["span_y"] / 2 - height / 2, width, height)
    view = _read(row["path"], area, patch_px)
    share_x, share_y = row["span_x"] / width, row["span_y"] / height
    if share_x < 1 and share_y < 1:
        half_x, half_y, middle = share_x * patch_px / 2, share_y * patch_px / 2, patch_px / 2
        box = [math.floor(edge + 0.5) for edge in (middle - half_x, middle - half_y, middle + half_x, middle + half_y)]
        ImageDraw.Draw(view).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=OUTLINE, width=2)
    return view


def _read(path: str, area: Area, patch_px: int) -> Image.Image:
    try:
        return Image.fromarray(read_area(path, area, patch_px, patch_px))
    except SlideError:
        return _draw_unreadable(patch_px)


def _draw_unreadable(patch_px: int) -> Image.Image:
    y, x = np.mgrid[0:patch_px, 0:patch_px]
    is_line = (x + y) % 12 < 3
    tile = Image.fromarray(np.where(is_line[..., None], HATCH_INK, HATCH_PAPER).astype(np.uint8))
    size = min(TEXT_PX + 1.0, patch_px / 7)  # small tiles: the word still fits
    ImageDraw.Draw(tile).text((patch_px / 2, patch_px / 2), "unreadable", INK, font(size), anchor="mm")
    return tile


def _slide_id(row: Row) -> str:
    return str(row.get("slide_id") or Path(row["path"]).stem)


def _captions(row: Row) -> list[str]:
    captions = [f"x {row['x']:g}, y {row['y']:g}"]
    facts = [f"label {row['label']}"] if row.get("label") is not None else []
    facts += [f"probability {row['probability']:.2f}"] if row.get("probability") is not None else []
    captions += [" · ".join(facts)] if facts else []
    return captions + ([str(row["error"])] if row.get("error") else [])


def _lay_out(
    header: str, cells: list[list[Image.Image]], captions: list[list[str]], titles: list[str], *, across: int = 1
) -> Image.Image:
    """Place cells, each a run of pictures of one size over its captions, `across` of them in a row."""
    picture_px = cells[0][0].width
    cell_width = len(cells[0]) * (picture_px + GAP) - GAP
    width = max(across * (cell_width + GAP) - GAP, 2 * picture_px) + 2 * MARGIN
    lines = [_clip(caption, cell_width) for caption in captions]
    header_lines = wrap(header, font(HEADER_PX, is_bold=True), width - 2 * MARGIN)
    titles_top = MARGIN + round(len(header_lines) * HEADER_PX * LINE_HEIGHT) + GAP // 2
    tops = [titles_top + (round(TEXT_PX * 1.8) if titles else 0)]
    for first in range(0, len(cells), across):
        tallest = max(len(cell) for cell in lines[first : first + across])
        tops.append(tops[-1] + picture_px + 4 + round(tallest * TEXT_PX * LINE_HEIGHT) + GAP)

    sheet = Image.new("RGB", (width, tops[-1] - GAP + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_lines(draw, (MARGIN, MARGIN), header_lines, HEADER_PX, is_bold=True)
    for index, title in enumerate(titles):
        center = MARGIN + index * (picture_px + GAP) + picture_px / 2
        draw.text((center, titles_top), title, INK, font(TEXT_PX + 1, is_bold=True), anchor="ma")
    for index, pictures in enumerate(cells):
        left, top = MARGIN + index % across * (cell_width + GAP), tops[index // across]
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (left + column * (picture_px + GAP), top))
        _draw_lines(draw, (left, top + picture_px + 4), lines[index], TEXT_PX, is_bold=False)
    return sheet


def _clip(captions: list[str], width: int) -> list[str]:
    lines = [line for caption in captions for line in wrap(caption, font(TEXT_PX), width)]
    if len(lines) <= LONGEST_CAPTION:
        return lines
    return [*lines[: LONGEST_CAPTION - 1], "…"]


def _draw_lines(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], lines: list[str], size: float, *, is_bold: bool
) -> None:
    for index, line in enumerate(lines):
        at = (corner[0], corner[1] + index * size * LINE_HEIGHT)
        draw.text(at, line, INK if is_bold else FAINT_INK, font(size, is_bold=is_bold))
