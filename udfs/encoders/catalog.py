"""The encoders that ship: built once into the cache from weights that are verified."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from udfs.cache_folder import cache_dir
from udfs.encoders import (
    efficientnet_lite0,
    efficientnet_lite0_int8,
    efficientnet_lite0_stages,
    inception_v3,
    inception_v3_int8,
)
from udfs.encoders.encoder import EncoderSpec, specify
from udfs.encoders.weights import exclusive, local_path
from udfs.errors import EncoderError

__all__ = ["BUILT_IN", "BuiltIn", "available", "cache_dir", "choose_auto", "prepare"]


@dataclass(frozen=True)
class BuiltIn:
    """An encoder that histolake builds itself; its graph takes the bytes as they are."""

    name: str
    about: str
    input_px: int
    dims: int
    source: str
    build: Callable[[Path], None]
    has_weights: Callable[[], bool]  # without network
    precision: str = "fp32"
    revision: int = 1  # raised when `build` writes another graph, so that no old file is taken for it

    @property
    def path(self) -> Path:
        """Where its ONNX file is kept."""
        return cache_dir() / "encoders" / f"{self.name}-r{self.revision}.onnx"

    @property
    def digest(self) -> Path:
        """Where the SHA-256 of that file is kept."""
        return self.path.with_suffix(".sha256")


BUILT_IN = {
    each.name: each
    for each in (
        BuiltIn(
            name="inception_v3",
            about="InceptionV3, Keras' ImageNet weights: the reference",
            input_px=inception_v3.INPUT_PX,
            dims=inception_v3.DIMS,
            source=inception_v3.SOURCE,
            build=inception_v3.build,
            has_weights=lambda: local_path(inception_v3.WEIGHTS) is not None,
        ),
        BuiltIn(
            name="inception_v3_int8",
            about="InceptionV3, most of it in int8: all but the same features three times as fast on a CPU",
            input_px=inception_v3_int8.INPUT_PX,
            dims=inception_v3_int8.DIMS,
            source=inception_v3_int8.SOURCE,
            build=inception_v3_int8.build,
            has_weights=lambda: local_path(inception_v3.WEIGHTS) is not None,
            precision="int8",
        ),
        BuiltIn(
            name="efficientnet_lite0",
            about="EfficientNet-Lite0, ImageNet weights from a Python package: fast, needs no network",
            input_px=efficientnet_lite0.INPUT_PX,
            dims=efficientnet_lite0.DIMS,
            source=efficientnet_lite0.SOURCE,
            build=efficientnet_lite0.build,
            has_weights=efficientnet_lite0.has_weights,
        ),
        BuiltIn(
            name="efficientnet_lite0_int8",
            about="EfficientNet-Lite0, most of it in int8: the fastest on a CPU, all but the same features",
            input_px=efficientnet_lite0_int8.INPUT_PX,
            dims=efficientnet_lite0_int8.DIMS,
            source=efficientnet_lite0_int8.SOURCE,
            build=efficientnet_lite0_int8.build,
            has_weights=efficientnet_lite0.has_weights,
            precision="int8",
        ),
        BuiltIn(
            name="efficientnet_lite0_stages",
            about="EfficientNet-Lite0's maps of all depths, in four views: the most accurate that needs no network",
            input_px=efficientnet_lite0_stages.INPUT_PX,
            dims=efficientnet_lite0_stages.DIMS,
            source=efficientnet_lite0_stages.SOURCE,
            build=efficientnet_lite0_stages.build,
            has_weights=efficientnet_lite0.has_weights,
        ),
    )
}
"""The encoders that ship, by name."""


def available(name: str) -> bool:
    """Whether a built-in can be had without network."""
    encoder = _built_in(name)
    return (encoder.path.is_file() and encoder.digest.is_file()) or encoder.has_weights()


def prepare(name: str) -> tuple[EncoderSpec, Path]:
    """Spec and ONNX file of a built-in, which is built on first use; two processes at once build it once.

    Raises EncoderError when there is no such encoder or its weights cannot be had.
    """
    encoder = _built_in(name)
    path = encoder.path
    if not path.is_file() or not encoder.digest.is_file():
        with exclusive(path.with_suffix(".lock")):
            if not path.is_file() or not encoder.digest.is_file():
                _build(encoder, path)
    sha256 = _sha256(path)
    if sha256 != encoder.digest.read_text(encoding="ascii").strip():
        raise EncoderError(
            f"{path}: not the file that was built here (its SHA-256 differs); delete it: it is built anew"
        )
    spec = specify(
        name,
        sha256=sha256,
        preprocessing=f'{{"dtype":"uint8","input_px":{encoder.input_px},"layout":"nhwc"}}',
        precision=encoder.precision,
        input_px=encoder.input_px,
        dims=encoder.dims,
        source=encoder.source,
    )
    return spec, path


def choose_auto() -> tuple[str, str]:
    """The encoder for a lake that has none yet, and a sentence that says why.

    inception_v3 if its weights are cached or one short attempt fetches them, else efficientnet_lite0.
    """
    if available("inception_v3"):
        return "inception_v3", "inception_v3: its weights are on this machine."
    try:
        prepare("inception_v3")
    except EncoderError as error:
        return "efficientnet_lite0", f"efficientnet_lite0, which needs no download: {error}."
    return "inception_v3", "inception_v3: its weights were fetched just now."


def _built_in(name: str) -> BuiltIn:
    if name not in BUILT_IN:
        raise EncoderError(f"no encoder {name} ships here; choose {' or '.join(BUILT_IN)}, or add an ONNX file")
    return BUILT_IN[name]


def _build(encoder: BuiltIn, path: Path) -> None:
    """Build beside `path` and move into place, so that a file with that name is always whole; its hash goes first."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=".partial")
    os.close(handle)
    try:
        encoder.build(Path(name))
        path.unlink(missing_ok=True)
        encoder.digest.write_text(_sha256(Path(name)), encoding="ascii")
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
