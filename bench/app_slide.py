"""A large slide in little time: one piece of generated tissue over and over."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from lake.pyramid import Level, declare_jpeg, write_levels
from lake.synthetic_layout import draw_layout
from lake.synthetic_tissue import paint

EDGE = 32_768  # of every slide, level-0 px
TILE_PX = 256  # of the file
JPEG_QUALITY = 80
MPP = 0.25


def write_slide(path: Path) -> None:
    """A pyramid of EDGE x EDGE px, JPEG: one piece of generated tissue over and over."""
    rng = np.random.default_rng(0)
    piece = paint(rng, draw_layout(rng, 0))
    piece = np.vstack([piece, piece[: piece.shape[1] - piece.shape[0]]])  # square, and so a power of 2
    write_levels(
        path,
        _levels(Image.fromarray(piece)),
        tile_px=TILE_PX,
        photometric="ycbcr",
        mpp=(MPP, MPP),
        description="histolake benchmark, not real tissue",
    )
    declare_jpeg(path)


def _levels(piece: Image.Image) -> Iterator[Level]:
    edge = EDGE
    while edge >= TILE_PX:
        if piece.width < TILE_PX:  # a tile shows several pieces
            whole = Image.new("RGB", (2 * piece.width, 2 * piece.width))
            for corner in ((0, 0), (piece.width, 0), (0, piece.width), (piece.width, piece.width)):
                whole.paste(piece, corner)
            piece = whole
        yield Level(edge, edge, _tiles(piece, edge))
        edge, piece = edge // 2, piece.reduce(2)


def _tiles(piece: Image.Image, edge: int) -> Iterator[bytes]:
    """The tiles of a level, row by row; each of the piece's is encoded once."""
    side = piece.width // TILE_PX
    encoded = [_jpeg(piece, column, row) for row in range(side) for column in range(side)]
    for row in range(edge // TILE_PX):
        for column in range(edge // TILE_PX):
            yield encoded[row % side * side + column % side]


def _jpeg(piece: Image.Image, column: int, row: int) -> bytes:
    x, y = column * TILE_PX, row * TILE_PX
    buffer = io.BytesIO()
    tile = piece.crop((x, y, x + TILE_PX, y + TILE_PX))
    tile.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    return buffer.getvalue()
