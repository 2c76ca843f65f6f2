"""Slides and a database for the tests of the UDFs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
import tifffile

import udfs.annotations
import udfs.files
import udfs.geometry
import udfs.image
import udfs.lesions
import udfs.slide
import udfs.slide_properties
import udfs.tissue  # noqa: F401  (the modules declare their functions when imported)
from udfs.registry import UDFS, register, rows_seen

SHARED_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

WriteSlide = Callable[..., str]


def _write_slide(
    path: Path,
    *levels: np.ndarray,
    tile: int = 64,
    compression: str = "deflate",
    mpp: tuple[float, float] | None = None,
    corrupt: tuple[tuple[int, int], ...] = (),
) -> str:
    resolution = {"resolution": (1e4 / mpp[0], 1e4 / mpp[1]), "resolutionunit": "CENTIMETER"} if mpp else {}
    with tifffile.TiffWriter(path) as tiff:
        for number, pixels in enumerate(levels):
            tiff.write(
                pixels,
                tile=(tile, tile),
                photometric="rgb",
                compression=compression,
                subfiletype=min(number, 1),
                metadata=None,
                **resolution,
            )
    with tifffile.TiffFile(path) as tiff:
        places = [(tiff.pages[level].dataoffsets[at], tiff.pages[level].databytecounts[at]) for level, at in corrupt]
    with path.open("r+b") as file:
        for offset, length in places:
            file.seek(offset)
            file.write(b"\x00" * length)
    return str(path)


@pytest.fixture(scope="session")
def write_slide() -> WriteSlide:
    """Write a TIFF pyramid of the given levels, (h, w, 3) each.

    mpp: microns per pixel along x and y. corrupt: (level, number of the tile) to overwrite with zeros.
    """
    return _write_slide


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with every UDF, on two threads; rows_seen starts at nothing."""
    rows_seen.clear()
    with duckdb.connect(config={"threads": 2}) as con:
        register(con, UDFS.values())
        yield con


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real slides and patches; the test skips where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real slides are not here: {SHARED_DATA} is needed")
    return SHARED_DATA
