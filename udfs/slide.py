"""What slides are asked for: properties, areas resampled exactly, patches for SQL.

Processes of their own read them (`udfs/slide_readers.py`). Coordinates are level-0 pixels, (x, y) from the top-left
corner; sizes are (width, height).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from stat import S_ISDIR, S_ISREG

import numpy as np
import pyarrow as pa

from udfs import slide_requests
from udfs.areas import Area, Cut, FileState, Pixels
from udfs.errors import SlideError
from udfs.registry import Column, udf
from udfs.slide_cache import local
from udfs.slide_requests import Source

__all__ = ["Area", "FileState", "Pixels", "crop", "dimensions", "file_state", "metadata", "read_area"]

MOST_BYTES = 2**31 - 1  # of pixels in one batch: what an Arrow array of blobs can address


def file_state(path: str) -> FileState:
    """What changes when the file is replaced or written to; fetches a slide that has an address.

    Raises SlideError when there is none.
    """
    return _source(path).state


def _source(path: str) -> Source:
    file = local(path)
    try:
        stat = os.stat(file.file)
    except OSError as error:
        raise SlideError(f"{path}: {error.strerror}; was the slide moved?") from None
    except ValueError as error:
        raise SlideError(f"{path!r}: no file can have this name ({error})") from None
    if not (S_ISREG(stat.st_mode) or S_ISDIR(stat.st_mode)):
        raise SlideError(f"{path}: neither a file nor a folder; name the slide itself")  # a pipe: who reads it, waits
    return Source(path, file, (os.path.abspath(file.file), stat.st_ino, stat.st_mtime_ns, stat.st_size))


def dimensions(path: str) -> tuple[int, int]:
    """Width and height of the slide, level-0 pixels. Raises SlideError when it cannot be opened."""
    return slide_requests.size(_source(path))


def metadata(path: str) -> dict[str, str]:
    """What OpenSlide tells of vendor, levels, resolution and bounds, and the slide's level-0 `width` and `height`.

    Decodes pixels of every level first. Raises SlideError when the slide cannot be opened or one
    of its levels cannot be read: neither at its first, nor its middle, nor its last pixel.
    """
    return slide_requests.properties(_source(path))


def read_area(path: str, area: Area, width: int, height: int) -> Pixels:
    """Read `area` of a slide resampled to exactly (width, height) px.

    Returns RGB, shape (height, width, 3). What lies outside the slide, or was not scanned, is white;
    an area that ends within half a pixel of the slide's edge ends at it.
    The coarsest level that is fine enough is resampled with an anti-aliasing filter whose window is
    the area itself, so neither mpp nor position is rounded to a level's pixels.
    Raises SlideError naming slide and area when its pixels cannot be read.
    """
    cut = Cut(area, width, height)
    if not cut.is_sensible:
        raise SlideError(_nonsense(path, cut))
    pixels = np.empty(cut.bytes, np.uint8)
    [error] = slide_requests.read(_source(path), [cut], pixels)
    if error is not None:
        raise SlideError(error)
    return pixels.reshape(height, width, 3)


def _nonsense(path: str, cut: Cut) -> str:
    return f"{path}: {cut} cannot be read as {cut.width} x {cut.height} px; ask for an area of a slide's size"


@udf(
    *("VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "INTEGER"),
    returns="STRUCT(pixels BLOB, error VARCHAR)",
)
def crop(path: Column, x: Column, y: Column, span_x: Column, span_y: Column, input_px: Column) -> pa.Array:
    """Read one patch a row, resampled to input_px x input_px.

    x, y: top-left corner; span_x, span_y: width and height, level-0 pixels.
    pixels: RGB bytes, row by row, input_px * input_px * 3 of them; NULL where they cannot be read,
    and then error says why. Unreadable pixels are never replaced by others. NULL in, NULL out.
    """
    rows = list(zip(*(column.to_pylist() for column in (path, x, y, span_x, span_y, input_px)), strict=True))
    cuts = [None if None in row else Cut(Area(*row[1:5]), row[5], row[5]) for row in rows]
    wanted = [(row[0], cut) for row, cut in zip(rows, cuts, strict=True) if cut is not None]
    size = sum(cut.bytes for _, cut in wanted if cut.is_sensible)
    if size > MOST_BYTES:
        raise SlideError(
            f"{wanted[0][0]}: the patches of one batch exceed {MOST_BYTES:,} bytes; read fewer, or smaller ones"
        )
    pixels = pa.allocate_buffer(size)
    out, reasons = np.frombuffer(pixels, np.uint8), []
    for one, group in groupby(wanted, itemgetter(0)):
        some = [cut for _, cut in group]
        found = _crop(one, some, out)
        out = out[sum(cut.bytes for cut, error in zip(some, found, strict=True) if error is None) :]
        reasons += found
    told = iter(reasons)
    errors = [None if cut is None else next(told) for cut in cuts]
    lengths = [0 if cut is None or error else cut.bytes for cut, error in zip(cuts, errors, strict=True)]
    return _images(pixels, lengths, errors, [cut is None for cut in cuts])


def _crop(path: str, cuts: Sequence[Cut], out: Pixels) -> list[str | None]:
    """Read patches of a slide into `out`, one after the other; why each of those that are left out cannot be read."""
    sensible = [cut for cut in cuts if cut.is_sensible]
    try:
        found = iter(slide_requests.read(_source(path), sensible, out))
    except SlideError as error:
        found = iter([str(error)] * len(sensible))
    return [next(found) if cut.is_sensible else _nonsense(path, cut) for cut in cuts]


def _images(
    pixels: pa.Buffer, lengths: Sequence[int], errors: Sequence[str | None], is_null: Sequence[bool]
) -> pa.StructArray:
    """The result of `crop`, without a copy of the pixels: of rows of those lengths, in order."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    is_read = pa.array([length > 0 for length in lengths], pa.bool_())  # one bit each, as validity is told
    blobs = pa.Array.from_buffers(pa.binary(), len(lengths), [is_read.buffers()[1], pa.py_buffer(offsets), pixels])
    parts = [blobs, pa.array(errors, pa.string())]
    return pa.StructArray.from_arrays(parts, ["pixels", "error"], mask=pa.array(is_null, pa.bool_()))
