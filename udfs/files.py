"""What identifies a file's content."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath, PurePosixPath

import pyarrow as pa

from udfs.addresses import is_address
from udfs.errors import SlideError
from udfs.registry import Column, udf
from udfs.remote import store_of
from udfs.slide_cache import doubt, local

SAMPLES = 64  # places of a file that its fingerprint covers, besides its size
SAMPLE_BYTES = 4096
ASKED_AT_ONCE = 8  # slides on servers whose samples are read side by side


def slide_files(path: Path) -> list[Path]:
    """The slide's file and, for formats that spread over several (MRXS, DICOM), all that belong to it."""
    companions = {".mrxs": path.with_suffix("").glob("*"), ".dcm": path.parent.glob("*.dcm")}
    return sorted({path, *companions.get(path.suffix.lower(), ())})


@udf("VARCHAR", returns="VARCHAR")
def file_fingerprint(path: Column) -> pa.Array:
    """Identify each slide by its size and 64 samples, 16 hex digits; NULL when it cannot be read.

    A slide of several files is covered by the names and sizes of all of them too. Of a slide with an
    address only the samples are read, where the server gives parts of files.
    """
    paths = [one or "" for one in path.to_pylist()]
    if any(map(is_address, paths)):
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            return pa.array(pool.map(_fingerprint, paths), pa.string())
    return pa.array(map(_fingerprint, paths), pa.string())


@udf("VARCHAR", returns="VARCHAR")
def file_hash(path: Column) -> pa.Array:
    """SHA-256 of each file's whole content, hex; NULL when it cannot be read."""
    return pa.array([None if one is None else _hash(Path(one)) for one in path.to_pylist()], pa.string())


def _fingerprint(path: str) -> str | None:
    try:
        return _fingerprint_of_address(path) if is_address(path) else _fingerprint_of_file(Path(path))
    except (OSError, ValueError, SlideError):  # ValueError: a name that no file can have
        return None


def _fingerprint_of_file(path: Path) -> str:
    sizes = [(file, file.stat().st_size) for file in slide_files(path)]
    if not path.is_file():  # of a pipe, reading may never end
        raise IsADirectoryError(errno.EISDIR, "no file", str(path))
    size = path.stat().st_size
    with path.open("rb") as content:
        samples = []
        for place in _places(size):
            content.seek(place)
            samples.append(content.read(SAMPLE_BYTES))
    return _digest(path, sizes, samples)


def _fingerprint_of_address(address: str) -> str:
    """The same as of a copy of the slide."""
    doubt(address)  # what is served now is what the next to open the slide shall see
    store = store_of(address)
    files = store.files(address)
    samples = store.samples(files[0], _places(files[0].size), SAMPLE_BYTES)
    if samples is None:
        copy = local(address)
        return _fingerprint_of_file(Path(copy.file))
    sizes = sorted((PurePosixPath(file.name), file.size) for file in files)
    return _digest(PurePosixPath(files[0].name), sizes, samples)


def _places(size: int) -> list[int]:
    last = max(0, size - SAMPLE_BYTES)
    return [last * sample // (SAMPLES - 1) for sample in range(SAMPLES)]


def _digest(path: PurePath, sizes: Sequence[tuple[PurePath, int]], samples: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for file, size in sizes:
        name = "" if file == path else file.name  # a slide that is only renamed stays the same
        digest.update(f"{name}\0{size}\0".encode(errors="surrogateescape"))
    for sample in samples:
        digest.update(sample)
    return digest.hexdigest()[:16]


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
