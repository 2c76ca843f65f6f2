"""What identifies a file's content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa

from udfs.registry import Column, udf

SAMPLES = 64  # places of a file that its fingerprint covers, besides its size
SAMPLE_BYTES = 4096


def slide_files(path: Path) -> list[Path]:
    """The slide's file and, for formats that spread over several (MRXS, DICOM), all that belong to it."""
    companions = {".mrxs": path.with_suffix("").glob("*"), ".dcm": path.parent.glob("*.dcm")}
    return sorted({path, *companions.get(path.suffix.lower(), ())})


@udf("VARCHAR", returns="VARCHAR")
def file_fingerprint(path: Column) -> pa.Array:
    """Identify each slide by its size and 64 samples, 16 hex digits; NULL when it cannot be read.

    A slide of several files is covered by the names and sizes of all of them too.
    """
    return pa.array([None if one is None else _fingerprint(Path(one)) for one in path.to_pylist()], pa.string())


@udf("VARCHAR", returns="VARCHAR")
def file_hash(path: Column) -> pa.Array:
    """SHA-256 of each file's whole content, hex; NULL when it cannot be read."""
    return pa.array([None if one is None else _hash(Path(one)) for one in path.to_pylist()], pa.string())


def _fingerprint(path: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        for file in slide_files(path):
            name = "" if file == path else file.name  # a slide that is only renamed stays the same
            digest.update(f"{name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
        last = max(0, path.stat().st_size - SAMPLE_BYTES)
        with path.open("rb") as content:
            for sample in range(SAMPLES):
                content.seek(last * sample // (SAMPLES - 1))
                digest.update(content.read(SAMPLE_BYTES))
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return digest.hexdigest()[:16]


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
