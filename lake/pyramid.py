"""Writing a pixel array as a pyramidal tiled TIFF that OpenSlide and every viewer open.

The JPEG tiles are encoded by Pillow and handed to tifffile ready made. tifffile refuses to write the
tag that says JPEG unless imagecodecs is installed, even when it has nothing to encode; so it writes
another, and the tag is set afterwards. That keeps imagecodecs out of every installation.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

TILE_PX = 256
JPEG_QUALITY = 85
MICRONS_PER_CM = 10_000


def write_pyramid(path: Path, pixels: NDArray[np.uint8], *, mpp: float, description: str) -> None:
    """Write `pixels`, RGB of shape (height, width, 3), with levels of half the size down to one tile.

    mpp: microns per pixel of level 0, stored as the resolution tags that OpenSlide reads.
    description: the ImageDescription, ASCII. The same input gives the same bytes. The tags are those of
    TIFF 6.0 and its Technical Note 2: YCbCr, chroma at full resolution, as the tiles are encoded.
    """
    level = Image.fromarray(pixels)
    halvings = 0
    with tifffile.TiffWriter(path) as tiff:
        while True:
            tiff.write(
                _encoded_tiles(level),
                shape=(level.height, level.width, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                compression="adobe_deflate",  # until _declare_jpeg
                tile=(TILE_PX, TILE_PX),
                subfiletype=1 if halvings else 0,
                resolution=(MICRONS_PER_CM / mpp / 2**halvings,) * 2,
                resolutionunit="CENTIMETER",
                description=None if halvings else description,
                software="histolake",
                metadata=None,
            )
            if max(level.size) <= TILE_PX:
                break
            level = level.reduce(2)
            halvings += 1
    _declare_jpeg(path)


def _declare_jpeg(path: Path) -> None:
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
