"""Encodes crops as image files."""

from __future__ import annotations

import io

import pyarrow as pa
from PIL import Image

from udfs.errors import HistolakeError
from udfs.registry import Column, udf

OPTIONS: dict[str, dict[str, object]] = {"jpeg": {"quality": 90, "subsampling": 0}, "png": {}}


@udf("BLOB", "INTEGER", "VARCHAR", returns="BLOB")
def encode_image(pixels: Column, edge_px: Column, image_format: Column) -> pa.Array:
    """Encode each crop (RGB bytes of edge_px x edge_px) as 'jpeg' (quality 90) or 'png'; NULL stays NULL.

    Raises HistolakeError for another format, or bytes that are not as many as such a crop has.
    """
    rows = zip(pixels.to_pylist(), edge_px.to_pylist(), image_format.to_pylist(), strict=True)
    return pa.array([None if None in row else _encode(*row) for row in rows], pa.binary())


def _encode(raw: bytes, edge: int, kind: str) -> bytes:
    if kind not in OPTIONS:
        raise HistolakeError(f"image format {kind!r} is not known; known are {', '.join(OPTIONS)}")
    if edge < 1 or len(raw) != edge * edge * 3:
        raise HistolakeError(
            f"a crop of {edge} x {edge} px has {edge * edge * 3:,} bytes, not {len(raw):,}; give its edge"
        )
    buffer = io.BytesIO()
    Image.frombytes("RGB", (edge, edge), raw).save(buffer, kind.upper(), **OPTIONS[kind])
    return buffer.getvalue()
