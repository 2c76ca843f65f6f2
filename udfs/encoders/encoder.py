"""An encoder: an ONNX file, what its input is made of, and the precision that it must be computed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udfs.encoders.onnx_file import OnnxFile, check_features, inspect
from udfs.encoders.preprocessing import Pixels, describe_input, to_input
from udfs.encoders.sessions import Session, open_session, runtime_errors, summary
from udfs.errors import EncoderError

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class EncoderSpec:
    """What the lake remembers of an encoder; equal identities give equal features."""

    encoder_id: str  # name and the first 8 digits of the identity
    name: str
    sha256: str  # of the ONNX file, and of the files that its weights are in
    preprocessing: str  # canonical JSON, as udfs.encoders.preprocessing says
    precision: str  # fp32, bf16, fp16 or int8
    input_px: int  # edge of a patch, pixels
    dims: int  # numbers in an embedding
    source: str


def specify(
    name: str, *, sha256: str, preprocessing: str, precision: str, input_px: int, dims: int, source: str
) -> EncoderSpec:
    """The spec of an encoder whose facts are known; its id follows from file, preprocessing and precision."""
    identity = hashlib.sha256("\n".join((sha256, preprocessing, precision)).encode()).hexdigest()
    return EncoderSpec(f"{name}-{identity[:8]}", name, sha256, preprocessing, precision, input_px, dims, source)


def describe(
    name: str,
    onnx_path: Path,
    *,
    preprocessing: Mapping[str, object],
    precision: str,
    source: str,
    input_px: int | None = None,
) -> EncoderSpec:
    """Look into an ONNX file, run it once, and return the spec of the encoder that it makes.

    preprocessing: scale, mean and std, each one number or three, so that the graph's input is
    (byte * scale - mean) / std; empty where the graph takes 0 to 255. input_px: edge of a patch,
    needed where the file leaves it open.
    Raises EncoderError naming file and remedy when the file cannot be an encoder.
    """
    file = inspect(onnx_path)
    facts = describe_input(file, input_px, preprocessing)
    edge = int(json.loads(facts)["input_px"])
    session = open_session(file, precision, edge)
    noise = np.random.default_rng(0).integers(0, 256, (session.batch, edge, edge, 3), np.uint8)
    features = _run(file, session, json.loads(facts), noise)
    return specify(
        name,
        sha256=file.sha256,
        preprocessing=facts,
        precision=precision,
        input_px=edge,
        dims=features.shape[1],
        source=source,
    )


class Encoder:
    """Turns patches into embeddings; may be called from several threads at once."""

    def __init__(self, spec: EncoderSpec, onnx_path: Path) -> None:
        """Open the encoder on the fastest provider that honours its precision.

        Raises EncoderError when the file is not the one that `spec` names, or nothing here runs it.
        """
        self.spec = spec
        self._file = inspect(onnx_path)
        if self._file.sha256 != spec.sha256:
            remedy = "restore the file, or add this one as another encoder"
            raise EncoderError(f"{onnx_path}: not the file of {spec.encoder_id} (its SHA-256 differs); {remedy}")
        self._facts: dict[str, Any] = json.loads(spec.preprocessing)
        self._session = open_session(self._file, spec.precision, spec.input_px)
        self.provider, self.batch = self._session.provider, self._session.batch  # batch: images in one run

    def embed(self, pixels: Pixels) -> Embeddings:
        """Embed RGB bytes (n, input_px, input_px, 3); returns (n, dims).

        Every run has the same number of images, the last one padded, so that an embedding does not
        depend on how many came with it and no provider compiles anew.
        Raises EncoderError when the pixels do not fit, or a number that comes out is not finite.
        """
        edge, batch = self.spec.input_px, self.batch
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (edge, edge, 3):
            raise EncoderError(f"{self.spec.encoder_id} takes bytes (n, {edge}, {edge}, 3), not {pixels.shape}")
        features = np.empty((len(pixels), self.spec.dims), np.float32)
        for start in range(0, len(pixels), batch):
            part = pixels[start : start + batch]
            padded = part if len(part) == batch else np.resize(part, (batch, *part.shape[1:]))
            features[start : start + batch] = self._features(padded)[: len(part)]
        return features

    def _features(self, pixels: Pixels) -> Embeddings:
        features = _run(self._file, self._session, self._facts, pixels)
        if features.shape[1] != self.spec.dims:
            found = f"{features.shape[1]} numbers instead of {self.spec.dims}"
            raise EncoderError(f"{self.spec.encoder_id} gave {found} for an image; add its file again")
        return features


def _run(file: OnnxFile, session: Session, facts: Mapping[str, Any], pixels: Pixels) -> Embeddings:
    """Embed exactly as many images as the session takes."""
    try:
        (output,) = session.session.run(None, {file.input_name: to_input(facts, pixels)})
    except runtime_errors() as error:
        why = f"{session.provider} cannot run it ({summary(error)})"
        raise EncoderError(f"{file.path}: {why}; export it again") from error
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
        raise EncoderError(f"{file.path}: its output is no array of numbers; export the embedding alone")
    if output.shape[:1] != pixels.shape[:1]:
        raise EncoderError(f"{file.path}: {len(pixels)} images did not give as many embeddings; export it for a batch")
    check_features(file.path, output.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused below
        features = _pool(file, output).astype(np.float32, copy=False)
    if not np.isfinite(features).all():
        raise EncoderError(f"{file.path}: its output is not finite; check scale, mean, std and precision")
    return features


def _pool(file: OnnxFile, output: NDArray[Any]) -> NDArray[Any]:
    """Average maps over their positions: patches are square, so the two equal edges are the positions."""
    if output.ndim == 2:
        return output
    _, first, second, third = output.shape
    is_nchw, is_nhwc = second == third, first == second
    if not is_nchw and not is_nhwc:
        raise EncoderError(f"{file.path}: output {output.shape} has no square maps; export pooled embeddings (n, dims)")
    if is_nchw and is_nhwc:  # as many channels as positions on an edge: maps lie as the input does
        is_nchw = file.layout == "nchw"
    pooled: Embeddings = output.mean(axis=(2, 3) if is_nchw else (1, 2), dtype=np.float32)
    return pooled
