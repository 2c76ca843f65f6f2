"""Writing pyramidal tiled TIFFs that OpenSlide and every viewer open.

Tiles are encoded here and handed to tifffile ready made, one by one. JPEG tiles are encoded by Pillow.
tifffile refuses to write the tag that says JPEG unless imagecodecs is installed, even when it has nothing to
encode; so it writes another, and the tag is set afterwards. That keeps imagecodecs out of every installation.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

TILE_PX = 256
JPEG_QUALITY = 85
MICRONS_PER_CM = 10_000


@dataclass(frozen=True)
class Level:
    """One resolution of a pyramid: its size in pixels, and its encoded tiles, row by row."""

    width: int
    height: int
    tiles: Iterable[bytes]


def write_levels(
    path: Path,
    levels: Iterable[Level],
    *,
    tile_px: int,
    photometric: str,
    mpp: tuple[float, float] | None,
    description: str,
    is_big: bool = False,
) -> None:
    """Write levels, each of half the size of the one before, of RGB tiles that are encoded with zlib.

    photometric: TIFF's name of the color space of the tiles' bytes. mpp: microns per pixel of level 0 along
    x and y, stored as the resolution tags that OpenSlide reads; None stores that it is not known.
    description: the ImageDescription, ASCII. is_big: BigTIFF, for files above 4 GB.
    The same input gives the same bytes.
    """
    with tifffile.TiffWriter(path, bigtiff=is_big) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                iter(level.tiles),
                shape=(level.height, level.width, 3),
                dtype=np.uint8,
                photometric=photometric,
                compression="adobe_deflate",
                tile=(tile_px, tile_px),
                subfiletype=1 if number else 0,
                resolution=tuple(MICRONS_PER_CM / each / 2**number for each in mpp) if mpp else (1, 1),
                resolutionunit="CENTIMETER" if mpp else "NONE",
                description=None if number else description,
                software="histolake",
                metadata=None,
            )


def write_pyramid(path: Path, pixels: NDArray[np.uint8], *, mpp: float, description: str) -> None:
    """Write `pixels`, RGB of shape (height, width, 3), with levels of half the size down to one tile.

    mpp, description: as for `write_levels`. The tags are those of TIFF 6.0 and its Technical Note 2:
    YCbCr, chroma at full resolution, as the tiles are encoded.
    """
    levels = _halved(Image.fromarray(pixels))
    write_levels(path, levels, tile_px=TILE_PX, photometric="ycbcr", mpp=(mpp, mpp), description=description)
    declare_jpeg(path)


def _halved(image: Image.Image) -> Iterator[Level]:
    yield Level(image.width, image.height, _encoded_tiles(image))
    while max(image.size) > TILE_PX:
        image = image.reduce(2)
        yield Level(image.width, image.height, _encoded_tiles(image))


def declare_jpeg(path: Path) -> None:
    """Set the tag that says JPEG in a file of `write_levels` whose tiles are JPEG, of YCbCr without subsampling."""
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for page in tiff.pages:
            page.aspage().tags["Compression"].overwrite(int(tifffile.COMPRESSION.JPEG))


def _encoded_tiles(level: Image.Image) -> Iterator[bytes]:
    for y in range(0, level.height, TILE_PX):
        for x in range(0, level.width, TILE_PX):
            tile = level.crop((x, y, min(x + TILE_PX, level.width), min(y + TILE_PX, level.height)))
            if tile.size != (TILE_PX, TILE_PX):  # tiles are whole; white, so that the rim does not ring dark
                whole = Image.new("RGB", (TILE_PX, TILE_PX), "white")
                whole.paste(tile)
                tile = whole
            encoded = io.BytesIO()
            tile.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
            yield encoded.getvalue()
