"""Classifiers in skops files: nothing is unpickled, and only scikit-learn's own classes are built."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from zipfile import BadZipFile, ZipFile

from udfs.errors import ModelError, shortened

OWNER = "sklearn."
LARGEST = 2**30  # bytes that a file may unpack to
DAMAGES = (  # what skops, NumPy and zipfile raise when they read what is damaged, or was made to look like a model
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError, BadZipFile, zlib.error),
)


def dumps(estimator: Any) -> tuple[bytes, list[str]]:
    """The classifier as a skops file, and the classes that it needs beyond those that skops trusts by itself.

    Raises ModelError when it holds anything that is not scikit-learn's own.
    """
    import skops.io

    content: bytes = skops.io.dumps(estimator)
    return content, _classes_in(content, "the classifier")


def loads(content: bytes, name: str) -> Any:
    """The classifier in a skops file. name: of the file, or of what it belongs to, for messages.

    Raises ModelError when it is none, unpacks to too much, or holds anything that is not scikit-learn's own.
    """
    import skops.io  # with scikit-learn, a second

    trusted = _classes_in(content, name)
    with _understood(name):
        return skops.io.loads(content, trusted=trusted)


def _classes_in(content: bytes, name: str) -> list[str]:
    """The classes of scikit-learn that the file needs beyond those that skops trusts by itself.

    Raises ModelError when it needs others, or is no skops file.
    """
    import skops.io

    with _understood(name):
        with ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise ModelError(f"{name}: unpacks to {size:,} bytes, at most {LARGEST:,}, and is not loaded; train again")
        names: list[str] = skops.io.get_untrusted_types(data=content)
    foreign = [each for each in names if not _is_own_class(each)]
    if foreign:
        listed = shortened(", ".join(foreign))
        raise ModelError(f"{name}: holds what is not scikit-learn's own and is not loaded: {listed}")
    return names


@contextmanager
def _understood(name: str) -> Iterator[None]:
    """A ModelError in the place of what reading a file raises that is no model."""
    try:
        yield
    except DAMAGES as error:
        why = shortened(str(error) or type(error).__name__)
        raise ModelError(f"{name}: not a skops file that can be read: {why}; train again") from error


def _is_own_class(name: str) -> bool:
    """Whether a class is defined by scikit-learn, and not a function, nor something that it only imported."""
    module, _, attribute = name.rpartition(".")
    if not module.startswith(OWNER):
        return False
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__.startswith(OWNER)
