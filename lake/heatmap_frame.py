"""What stands around a heatmap's picture: title, legend, scale bar, and the banner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from lake.lettering import LINE_HEIGHT, font, wrap
from udfs.slide import Pixels

BANNER = "Research use only. Not for diagnosis."

SMALLEST_WIDTH = 560  # holds legend and scale bar side by side
SMALLEST_PICTURE_HEIGHT = 72  # holds the message where the slide's own picture is a thread
MARGIN = 20
TEXT_PX = 15
LEGEND_BAR = (260, 16)
LONGEST_SCALE_BAR = 200  # output pixels

PAPER = (255, 255, 255)
MAT = (236, 238, 241)
INK = (28, 32, 38)
FAINT_INK = (92, 99, 110)
BANNER_PAPER = (122, 22, 30)


@dataclass(frozen=True)
class Legend:
    """A color bar: its name, and its colors from low to high, RGB, shape (n, 3)."""

    name: str
    colors: Pixels
    low: float = 0
    high: float = 1


def frame_picture(
    picture: Image.Image, *, title: str, legend: Legend, microns_per_px: float | None, message: str | None
) -> Image.Image:
    """Place a picture, unscaled, between its title and its legend, scale bar and banner.

    microns_per_px: size of the picture's pixels; None writes that there is no scale bar.
    message: written across the picture.
    """
    width = max(picture.width, SMALLEST_WIDTH) + 2 * MARGIN
    face = font(TEXT_PX)
    title_lines = wrap(title, font(TEXT_PX + 3, is_bold=True), width - 2 * MARGIN)
    title_height = _text_height(title_lines, TEXT_PX + 3)
    picture_height = max(picture.height, SMALLEST_PICTURE_HEIGHT)
    legend_height = round(2 * TEXT_PX * LINE_HEIGHT) + LEGEND_BAR[1] + 8
    banner_height = round(2.4 * TEXT_PX)
    picture_top = MARGIN + title_height + MARGIN // 2
    legend_top = picture_top + picture_height + MARGIN
    banner_top = legend_top + legend_height + MARGIN // 2

    image = Image.new("RGB", (width, banner_top + banner_height), PAPER)
    draw = ImageDraw.Draw(image)
    _draw_lines(draw, (MARGIN, MARGIN), title_lines, TEXT_PX + 3, is_bold=True)
    if (picture.width, picture.height) != (width - 2 * MARGIN, picture_height):
        draw.rectangle((MARGIN, picture_top, width - MARGIN - 1, picture_top + picture_height - 1), MAT)
    corner = ((width - picture.width) // 2, picture_top + (picture_height - picture.height) // 2)
    image.paste(picture, corner)
    if message is not None:
        _draw_message(draw, (width // 2, picture_top + picture_height // 2), message)
    _draw_legend(image, (MARGIN, legend_top), legend)
    if microns_per_px is None:
        draw.text((width - MARGIN, legend_top), "no mpp: no scale bar", FAINT_INK, face, anchor="ra")
    else:
        _draw_scale_bar(draw, (width - MARGIN, legend_top), microns_per_px)
    draw.rectangle((0, banner_top, width, banner_top + banner_height), BANNER_PAPER)
    banner_center = (width / 2, banner_top + banner_height / 2)
    draw.text(banner_center, BANNER, PAPER, font(TEXT_PX + 1, is_bold=True), anchor="mm")
    return image


def scale_bar(microns_per_px: float) -> tuple[float, str]:
    """Choose the longest round length that fits: its output pixels, and its name.

    Round is 1, 2 or 5 times a power of ten, in nanometers, microns or millimeters.
    """
    longest = LONGEST_SCALE_BAR * microns_per_px
    power = 10.0 ** math.floor(math.log10(longest))
    microns = next(factor * power for factor in (5, 2, 1) if factor * power <= longest * (1 + 1e-9))
    if microns >= 1000:
        return microns / microns_per_px, f"{microns / 1000:g} mm"
    if microns >= 1:
        return microns / microns_per_px, f"{microns:g} µm"
    return microns / microns_per_px, f"{microns * 1000:g} nm"


def _text_height(lines: list[str], size: float) -> int:
    return round(len(lines) * size * LINE_HEIGHT)


def _draw_lines(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], lines: list[str], size: float, *, is_bold: bool
) -> None:
    for index, line in enumerate(lines):
        at = (corner[0], corner[1] + index * size * LINE_HEIGHT)
        draw.text(at, line, INK, font(size, is_bold=is_bold))


def _draw_message(draw: ImageDraw.ImageDraw, center: tuple[float, float], message: str) -> None:
    face = font(TEXT_PX + 5, is_bold=True)
    left, top, right, bottom = draw.textbbox(center, message, face, anchor="mm")
    draw.rounded_rectangle((left - 16, top - 12, right + 16, bottom + 12), 6, PAPER, FAINT_INK)
    draw.text(center, message, INK, face, anchor="mm")


def _draw_legend(image: Image.Image, corner: tuple[int, int], legend: Legend) -> None:
    draw = ImageDraw.Draw(image)
    width, height = LEGEND_BAR
    left, top = corner[0], corner[1] + round(TEXT_PX * LINE_HEIGHT)
    draw.text(corner, legend.name, INK, font(TEXT_PX))
    columns = legend.colors[np.linspace(0, len(legend.colors) - 1, width).round().astype(int)]
    image.paste(Image.fromarray(np.broadcast_to(columns, (height, width, 3)).copy()), (left, top))
    draw.rectangle((left - 1, top - 1, left + width, top + height), outline=FAINT_INK)
    for share, anchor in ((0.0, "la"), (0.25, "ma"), (0.5, "ma"), (0.75, "ma"), (1.0, "ra")):
        x = left + share * (width - 1)
        value = legend.low + share * (legend.high - legend.low)
        draw.line((x, top + height, x, top + height + 4), FAINT_INK)
        draw.text((x, top + height + 6), f"{value:g}", INK, font(TEXT_PX - 2), anchor=anchor)


def _draw_scale_bar(draw: ImageDraw.ImageDraw, corner: tuple[int, int], microns_per_px: float) -> None:
    """Draw the bar so that it ends at `corner`, its top right."""
    length, name = scale_bar(microns_per_px)
    right = corner[0] - 1
    left = right - round(length) + 1
    top = corner[1] + round(TEXT_PX * LINE_HEIGHT) + LEGEND_BAR[1] // 2 - 3
    draw.rectangle((left, top, right, top + 5), INK)
    # Centered over the bar, unless a short bar's name would leave the paper.
    half = font(TEXT_PX).getlength(name) / 2
    draw.text((min((left + right) / 2, right - half), corner[1]), name, INK, font(TEXT_PX), anchor="ma")
