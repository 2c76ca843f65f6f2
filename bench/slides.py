"""Large slides in little time: one piece of tissue over and over, with glass between.

The piece is a mosaic of PatchCamelyon's training patches where ../shared has them, else generated tissue. Its tiles
are encoded once and written again and again. OpenSlide keeps decoded tiles by their place, so that this is no
advantage to any reader.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import report
from numpy.typing import NDArray
from PIL import Image

from lake.pyramid import Level, declare_jpeg, write_levels
from lake.synthetic_layout import draw_layout
from lake.synthetic_tissue import paint

TILE_PX = 256  # of the file
JPEG_QUALITY = 80
PIECE_PX = 4096  # edge of the piece of real tissue: 256 tiles
PATCH_PX = 96  # of PatchCamelyon
GLASS = 243  # grey level of what is not tissue

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Piece:
    """A square of tissue, its edge a power of 2 in px and at least a tile; and what it is of."""

    image: Image.Image
    about: str


def real_piece() -> Piece:
    """A mosaic of PatchCamelyon's training patches; generated tissue where they are not at hand."""
    file = report.SHARED / "data" / "pcam" / "train.parquet"
    if not file.is_file():
        return generated_piece()
    side = -(-PIECE_PX // PATCH_PX)
    jpegs = pq.read_table(file, columns=["jpeg"]).slice(0, side * side)["jpeg"].to_pylist()
    image = Image.new("RGB", (PIECE_PX, PIECE_PX))
    for number, jpeg in enumerate(jpegs):
        image.paste(Image.open(io.BytesIO(jpeg)), (number % side * PATCH_PX, number // side * PATCH_PX))
    return Piece(image, "PatchCamelyon's patches as a mosaic")


def generated_piece() -> Piece:
    """Tissue as the demo has it."""
    rng = np.random.default_rng(0)
    piece = paint(rng, draw_layout(rng, 0))
    piece = np.vstack([piece, piece[: piece.shape[1] - piece.shape[0]]])  # square, and so a power of 2
    return Piece(Image.fromarray(piece), "generated tissue, not real")


def everywhere(width: int, height: int) -> Mask:
    """Tissue on all tiles of a slide of that size, px: (rows, columns)."""
    return np.ones((-(-height // TILE_PX), -(-width // TILE_PX)), bool)


def in_islands(width: int, height: int) -> Mask:
    """Tissue on some 60 % of the tiles, in two large sections and some crumbs, as on a slide of lymph nodes."""
    rows, columns = everywhere(width, height).shape
    y, x = np.mgrid[0.5:rows, 0.5:columns]
    y, x = y / rows, x / columns
    found = np.zeros((rows, columns), bool)
    for centre_x, centre_y, radius_x, radius_y in (
        (0.30, 0.48, 0.27, 0.44),
        (0.78, 0.60, 0.19, 0.37),
        (0.72, 0.10, 0.12, 0.08),
        (0.93, 0.13, 0.05, 0.06),
    ):
        found |= ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 < 1
    return found


def write_slide(path: Path, piece: Piece, width: int, height: int, tissue: Mask, mpp: float) -> None:
    """A pyramid of width x height px in JPEG tiles, down to one tile; tissue where `tissue` says so, else glass."""
    write_levels(
        path,
        _levels(piece.image, width, height, tissue),
        tile_px=TILE_PX,
        photometric="ycbcr",
        mpp=(mpp, mpp),
        description=f"histolake benchmark, {piece.about}",
        is_big=width * height > 2**32,
    )
    declare_jpeg(path)


def _levels(piece: Image.Image, width: int, height: int, tissue: Mask) -> Iterator[Level]:
    step = 1  # tiles of level 0 that one tile is wide
    while True:
        if piece.width < TILE_PX:  # a tile shows several pieces
            whole = Image.new("RGB", (2 * piece.width, 2 * piece.width))
            for corner in ((0, 0), (piece.width, 0), (0, piece.width), (piece.width, piece.width)):
                whole.paste(piece, corner)
            piece = whole
        yield Level(width, height, _tiles(piece, width, height, tissue, step))
        if max(width, height) <= TILE_PX:
            return
        width, height, step, piece = -(-width // 2), -(-height // 2), 2 * step, piece.reduce(2)


def _tiles(piece: Image.Image, width: int, height: int, tissue: Mask, step: int) -> Iterator[bytes]:
    """The tiles of a level, row by row; each of the piece's is encoded once."""
    side = piece.width // TILE_PX
    cut = {(column, row): _cut(piece, column, row) for row in range(side) for column in range(side)}
    encoded = {place: _jpeg(tile) for place, tile in cut.items()}
    glass = Image.new("RGB", (TILE_PX, TILE_PX), (GLASS,) * 3)
    encoded_glass = _jpeg(glass)
    for row in range(-(-height // TILE_PX)):
        for column in range(-(-width // TILE_PX)):
            shown = tissue[row * step : (row + 1) * step, column * step : (column + 1) * step]
            place = column % side, row % side
            if shown.all():
                yield encoded[place]
            elif not shown.any():
                yield encoded_glass
            else:
                mask = np.zeros((step, step), np.uint8)
                mask[: shown.shape[0], : shown.shape[1]] = 255 * shown
                yield _jpeg(Image.composite(cut[place], glass, Image.fromarray(mask).resize(glass.size, 0)))


def encode(piece: Piece) -> Iterator[bytes]:
    """The tiles of the piece as level 0 has them."""
    side = piece.image.width // TILE_PX
    for row in range(side):
        for column in range(side):
            yield _jpeg(_cut(piece.image, column, row))


def _cut(piece: Image.Image, column: int, row: int) -> Image.Image:
    x, y = column * TILE_PX, row * TILE_PX
    return piece.crop((x, y, x + TILE_PX, y + TILE_PX))


def _jpeg(tile: Image.Image) -> bytes:
    buffer = io.BytesIO()
    tile.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return buffer.getvalue()
