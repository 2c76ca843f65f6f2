"""Slides that are damaged on purpose: small pyramids of every compression, and the real ones of ../shared."""

from __future__ import annotations

import io
import struct
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray
from PIL import Image

from lake.pyramid import write_pyramid

WIDTH, HEIGHT, TILE_PX = 768, 640, 128  # px of the pyramids that are written
MPP = 0.499  # of the real Aperio slide, and so of all
FORMATS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of struct, by TIFF's types of whole numbers

PIXEL_DATA, ITEM = b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0"  # DICOM's tags

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Tag:
    """A tag of a directory: where its entry and its values lie in the file."""

    entry: int
    value: int
    type: int
    count: int


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF: where it lies, where the file names the next one, its tags and tiles."""

    start: int
    next_at: int
    tags: dict[str, Tag]
    tiles: list[tuple[int, int]]  # offset and length


@dataclass(frozen=True)
class Original:
    """A sound slide."""

    name: str
    data: bytes
    suffix: str

    @property
    def is_big(self) -> bool:
        """Whether it is a BigTIFF."""
        return self.data[2] == 43

    @property
    def order(self) -> str:
        """The byte order, as struct names it."""
        return "<" if self.data[:2] == b"II" else ">"

    @cached_property
    def directories(self) -> list[Directory]:
        """All of a TIFF."""
        with tifffile.TiffFile(_named(self.data)) as tiff:
            return [self._directory(page.aspage()) for page in tiff.pages]

    def _directory(self, page: tifffile.TiffPage) -> Directory:
        head, entry, number = (8, 20, "Q") if self.is_big else (2, 12, "H")
        [count] = struct.unpack_from(self.order + number, self.data, page.offset)
        tags = {tag.name: Tag(tag.offset, tag.valueoffset, int(tag.dtype), tag.count) for tag in page.tags}
        tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        return Directory(page.offset, page.offset + head + count * entry, tags, tiles)

    @cached_property
    def pixels(self) -> Pixels:
        """Level 0, (height, width, 3), as tifffile decodes it; of DICOM, as OpenSlide does."""
        if self.suffix == ".dcm":
            with tempfile.NamedTemporaryFile(suffix=self.suffix) as file:
                Path(file.name).write_bytes(self.data)
                with openslide.OpenSlide(file.name) as slide:
                    return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        with tifffile.TiffFile(_named(self.data)) as tiff:
            return np.asarray(tiff.pages[0].asarray())

    @cached_property
    def frames(self) -> list[tuple[int, int]]:
        """Offset and length of each frame of DICOM, which are encapsulated one by one; of TIFF none."""
        if self.suffix != ".dcm":
            return []
        found, at = [], self.data.index(PIXEL_DATA) + 12
        while self.data[at : at + 4] == ITEM:
            [length] = struct.unpack_from("<I", self.data, at + 4)
            found.append((at + 8, length))
            at += 8 + length
        return found[1:]  # without the table of offsets

    @cached_property
    def boundaries(self) -> list[int]:
        """Where something ends or begins: header, directories, their entries and values, tiles."""
        found = {2, 4, 8, 16, len(self.data) - 1}
        for directory in self.directories:
            found |= {directory.start, directory.next_at, directory.next_at + (8 if self.is_big else 4)}
            for tag in directory.tags.values():
                found |= {tag.entry, tag.value}
            for offset, length in directory.tiles:
                found |= {offset, offset + length}
        return sorted(at for at in found if 0 < at < len(self.data))


def _named(data: bytes) -> tifffile.FileHandle:
    return tifffile.FileHandle(io.BytesIO(data), name="original.tif", size=len(data))


def texture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """Pink and purple everywhere, other colours at every place."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 90, (height // 32 + 1, width // 32 + 1, 3))
    image = Image.fromarray((np.array([225, 130, 190]) - coarse).clip(0, 255).astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def written(folder: Path) -> list[Original]:
    """Pyramids of JPEG, as histolake writes them, and of other compressions; one is a BigTIFF, one Aperio's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pyramid.tif"
    write_pyramid(path, texture(0), mpp=MPP, description="histolake")
    found = [Original("jpeg", path.read_bytes(), ".tif")]
    aperio = f"Aperio Image Library v1\n{WIDTH}x{HEIGHT}|AppMag = 20|MPP = {MPP}"
    kinds: list[tuple[str, str, bool, str]] = [
        ("big", "jpeg", True, ""),
        ("deflate", "deflate", False, ""),
        ("lzw", "lzw", False, ""),
        ("plain", "none", False, ""),
        ("zstd", "zstd", False, ""),
        ("jpeg2000", "aperio_jp2000_rgb", False, aperio),
    ]
    for seed, (name, compression, is_big, about) in enumerate(kinds, start=1):
        path = folder / f"{name}.{'svs' if about else 'tif'}"
        _write(path, texture(seed), compression, is_big, about)
        found.append(Original(name, path.read_bytes(), path.suffix))
    return found


def _write(path: Path, pixels: Pixels, compression: str, is_big: bool, about: str) -> None:
    image = Image.fromarray(pixels)
    with tifffile.TiffWriter(path, bigtiff=is_big) as tiff:
        for number in range(3):
            level = np.asarray(image.reduce(2**number)) if number else pixels
            tiff.write(
                level,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr" if compression == "jpeg" else "rgb",
                compression=compression,
                subfiletype=1 if number and not about else 0,
                resolution=(1e4 / MPP / 2**number,) * 2,
                resolutionunit="CENTIMETER",
                description=about or None,
                metadata=None,
            )


def real(shared: Path) -> list[Original]:
    """The Aperio slide and the DICOM file of ../shared, where they are."""
    slides = shared / "data" / "slides"
    found = [slides / "CMU-1-Small-Region.svs", *sorted(slides.glob("*/*.dcm"))]
    return [Original(path.stem[:8], path.read_bytes(), path.suffix) for path in found if path.is_file()]


def bad(shared: Path) -> list[Path]:
    """Files of ../shared that were damaged by others."""
    return sorted(path for path in (shared / "data" / "slides" / "bad").glob("*") if path.is_file())
