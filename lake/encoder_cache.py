"""ONNX files of encoders on a machine that was sent them: a worker's, which need not read them from the lake."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udfs.cache_folder import cache_dir
from udfs.encoders.onnx_file import external_data, inspect
from udfs.errors import EncoderError

Files = Mapping[str, NDArray[np.uint8]]
"""An encoder's files: the ONNX file under the name FILE, and those that hold its weights, each under its own."""

FILE = "encoder.onnx"


def cached(sha256: str) -> Path | None:
    """The ONNX file of that hash in this machine's cache; None when it is not there."""
    file = _folder(sha256) / FILE
    return file if file.is_file() else None


def read(file: Path) -> Files:
    """The bytes of an encoder's files."""
    others = {name: np.fromfile(file.parent / name, np.uint8) for name in external_data(file)}
    return {FILE: np.fromfile(file, np.uint8), **others}


def keep(sha256: str, files: Files) -> None:
    """Put the files of an encoder into this machine's cache; safe when several processes do it at once.

    Raises EncoderError when they are not those of that hash.
    """
    folder = _folder(sha256)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{sha256}-", suffix=".partial"))
    try:
        for name, content in files.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            content.tofile(partial / name)
        if inspect(partial / FILE).sha256 != sha256:
            raise EncoderError(f"{FILE} of {sha256[:12]}…: what was sent is another file; run the command again")
        try:
            partial.rename(folder)
        except OSError:  # another process was quicker
            if not (folder / FILE).is_file():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _folder(sha256: str) -> Path:
    return cache_dir() / "encoders" / sha256
