"""Compares an encoder in fewer bits with the same one in fp32, on crops drawn like stained tissue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udfs.encoders.encoder import Encoder, describe
from udfs.errors import EncoderError

LEAST = 0.999  # mean cosine
_CROPS = 24
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))  # densities of haematoxylin and eosin: Ruifrok and Johnston, 2001
_DENSITY, _SLIDES, _SPREAD = -1.2, 0.5, 0.6  # logarithms: of a stain's density, its spread over crops, and within one


def check(name: str, rounded: Path, exact: Path) -> float:
    """The mean cosine between the features of an int8 file and of an fp32 file that takes the same bytes.

    Raises EncoderError naming the cosine when it is below `LEAST`.
    """
    files = (rounded, "int8"), (exact, "fp32")
    specs = [describe(name, path, preprocessing={}, precision=bits, source="") for path, bits in files]
    crops = draw_tissue(_CROPS, specs[0].input_px)
    a, b = (Encoder(spec, path).embed(crops) for spec, (path, _) in zip(specs, files, strict=True))
    cosine = float(np.mean(np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
    if not cosine >= LEAST:
        raise EncoderError(
            f"{name}: with these weights its features are not those of fp32 (mean cosine {cosine:.4f}, "
            f"at least {LEAST} is wanted); use {name.removesuffix('_int8')}"
        )
    return cosine


def draw_tissue(count: int, px: int) -> NDArray[np.uint8]:
    """RGB crops (count, px, px, 3), the same every time: two stains as dense as pink noise, which photographs resemble.

    Amplitudes fall with 1 / frequency.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(px)[:, None], np.fft.rfftfreq(px))
    frequency[0, 0] = np.inf
    crops = np.empty((count, px, px, 3), np.uint8)
    for crop in crops:
        density = np.zeros((px, px, 3))
        for stain in _STAINS:
            noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((px, px))) / frequency, (px, px))
            logarithm = _DENSITY + rng.normal(0, _SLIDES) + _SPREAD * noise / noise.std()
            density += np.exp(logarithm)[:, :, None] * stain
        crop[:] = np.rint(255 * np.exp(-density))
    return crops
