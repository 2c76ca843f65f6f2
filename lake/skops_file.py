"""Classifiers in skops files: nothing is unpickled, and only scikit-learn's own classes are built."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from udfs.errors import ModelError

OWNER = "sklearn."


def write(estimator: Any, file: Path) -> list[str]:
    """Write the classifier; returns the classes that it needs beyond those that skops trusts by itself.

    Raises ModelError when it holds anything that is not scikit-learn's own.
    """
    import skops.io

    skops.io.dump(estimator, file)
    return classes_in(file)


def read(file: Path) -> Any:
    """The classifier in the file. Raises ModelError when it holds anything that is not scikit-learn's own."""
    import skops.io  # with scikit-learn, a second

    return skops.io.load(file, trusted=classes_in(file))


def classes_in(file: Path) -> list[str]:
    """The classes of scikit-learn that the file needs beyond those that skops trusts by itself.

    Raises ModelError when it needs others, or is no skops file.
    """
    import skops.io

    try:
        names: list[str] = skops.io.get_untrusted_types(file=file)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ModelError(f"{file}: not a skops file that can be read: {error}; train again") from error
    foreign = [name for name in names if not _is_own_class(name)]
    if foreign:
        raise ModelError(f"{file}: holds what is not scikit-learn's own and is not loaded: {', '.join(foreign)}")
    return names


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
