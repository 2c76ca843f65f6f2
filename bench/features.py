"""Labelled patches of PatchCamelyon and their embeddings, kept in a folder so that a second run is quick."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from udfs.encoders.encoder import Encoder

PARTS = 8  # files that the embeddings of one set are kept in
BATCH = 64
STAINED_SLIDES = 48  # slides that a set is thought to come from when each gets a stain of its own

Pixels = NDArray[np.uint8]
Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Patches:
    """JPEG files of 96 px patches and their labels; stain: the spread of a stain shift of each slide."""

    name: str
    jpegs: list[bytes]
    labels: NDArray[np.int64]
    stain: float = 0.0


def read_patches(folder: Path, split: str, stain: float = 0.0) -> Patches:
    """The patches of `split`.parquet; stain as in ../shared/tools/mosaic.py."""
    table = pq.read_table(folder / f"{split}.parquet", columns=["jpeg", "label"])
    name = f"{split}-{len(table)}-stain{stain:g}"
    return Patches(name, table["jpeg"].to_pylist(), table["label"].to_numpy().astype(np.int64), stain)


def pixels(patches: Patches, rows: NDArray[np.int64], edge: int) -> Pixels:
    """RGB bytes (n, edge, edge, 3) of some patches, resampled as the SQL function `crop` does it."""
    out = np.empty((len(rows), edge, edge, 3), np.uint8)
    for index, row in enumerate(rows):
        image = Image.open(io.BytesIO(patches.jpegs[row])).convert("RGB")
        if patches.stain:
            image = Image.fromarray(_stained(np.asarray(image), patches.stain, int(row) % STAINED_SLIDES))
        out[index] = np.asarray(image.resize((edge, edge), Image.Resampling.BILINEAR))
    return out


def _stained(rgb: Pixels, spread: float, slide: int) -> Pixels:
    """Scale each channel's optical density, as another laboratory's stain would."""
    factor = np.exp(spread * np.random.default_rng([0, slide]).standard_normal(3))
    return np.asarray(255 * (np.maximum(rgb, 1) / 255.0) ** factor).astype(np.uint8)


def embeddings(encoder: Encoder, patches: Patches, cache: Path) -> Embeddings:
    """The embeddings (n, dims) of all patches, read from `cache` where they were made before."""
    folder = cache / encoder.spec.encoder_id / patches.name
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(lambda part: _part(encoder, patches, folder, part), range(PARTS)))
    out = np.empty((len(patches.labels), encoder.spec.dims), np.float32)
    for number, part in enumerate(parts):
        out[number::PARTS] = part
    return out


def _part(encoder: Encoder, patches: Patches, folder: Path, part: int) -> Embeddings:
    path = folder / f"{part}.npy"
    if not path.is_file():
        rows = np.arange(part, len(patches.labels), PARTS)
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        found = np.concatenate([encoder.embed(pixels(patches, each, encoder.spec.input_px)) for each in batches])
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, found)
        partial.replace(path)
    return np.asarray(np.load(path))
