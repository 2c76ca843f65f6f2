"""The SQL function embed: patches in, embeddings out, by the encoder that SQL names."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.encoders.encoder import Encoder
from udfs.encoders.preprocessing import Pixels
from udfs.errors import EncoderError
from udfs.registry import Column, Udf


def embed_udf(load: Callable[[str], Encoder]) -> Udf:
    """The SQL function embed(encoder_id, pixels), whose encoders are loaded once, on first call.

    load: returns the encoder of an encoder_id, or raises EncoderError.
    """
    encoders: dict[str, Encoder] = {}
    lock = threading.Lock()

    def encoder_of(encoder_id: str) -> Encoder:
        with lock:  # DuckDB's threads ask at the same moment, and a session is large
            if encoder_id not in encoders:
                encoders[encoder_id] = load(encoder_id)
            return encoders[encoder_id]

    def embed(encoder_id: Column, pixels: Column) -> pa.Array:
        """Embedding of each patch by the encoder of that id: dims numbers, NULL where the pixels are.

        pixels: RGB bytes, row by row, of the encoder's input_px x input_px.
        Raises EncoderError when there is no such encoder or the pixels do not fit it.
        """
        return _embed(encoder_of, encoder_id, pixels)

    parameters = (("encoder_id", "VARCHAR"), ("pixels", "BLOB"))
    return Udf("embed", parameters, "FLOAT[]", inspect.getdoc(embed) or "", embed)


def _embed(encoder_of: Callable[[str], Encoder], encoder_id: Column, pixels: Column) -> pa.Array:
    """Lists of floats, as many as rows; each row has the length of its own encoder's embeddings."""
    is_null = pc.or_(encoder_id.is_null(), pixels.is_null())
    lengths = np.zeros(len(pixels), np.int32)
    parts = []
    for name in pc.drop_null(pc.unique(encoder_id)).to_pylist():
        chosen = pc.and_not(pc.equal(encoder_id, name).fill_null(False), is_null)
        rows = np.flatnonzero(chosen)
        if len(rows):
            encoder = encoder_of(name)
            patches = pixels if len(rows) == len(pixels) else pixels.filter(chosen)  # a filter copies them
            parts.append((rows, encoder.embed(_as_images(encoder, patches))))
            lengths[rows] = encoder.spec.dims
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = np.empty(offsets[-1], np.float32)
    for rows, embeddings in parts:
        values[offsets[rows, None] + np.arange(embeddings.shape[1])] = embeddings
    return pa.ListArray.from_arrays(offsets, pa.array(values), mask=is_null)


def _as_images(encoder: Encoder, pixels: Column) -> Pixels:
    """View the column's own bytes, (n, input_px, input_px, 3), without copying them."""
    edge = encoder.spec.input_px
    size = edge * edge * 3
    wrong = set(pc.unique(pc.binary_length(pixels)).to_pylist()) - {size}
    if wrong:
        found = " and ".join(f"{length:,}" for length in sorted(wrong))
        needed = f"{encoder.spec.encoder_id} takes {edge} x {edge} px patches of {size:,} bytes"
        raise EncoderError(f"{needed}, but pixels have {found}; read the patches at {edge} px")
    column = pixels.cast(pa.large_binary())  # wider offsets; the bytes are shared
    _, offsets, data = column.buffers()
    start = int(np.frombuffer(offsets, np.int64)[column.offset])
    return np.frombuffer(data, np.uint8)[start : start + len(column) * size].reshape(-1, edge, edge, 3)
