"""Classifiers in skops files: nothing is unpickled, and only scikit-learn's own classes are built."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from zipfile import BadZipFile

from udfs.errors import ModelError

OWNER = "sklearn."


def dumps(estimator: Any) -> tuple[bytes, list[str]]:
    """The classifier as a skops file, and the classes that it needs beyond those that skops trusts by itself.

    Raises ModelError when it holds anything that is not scikit-learn's own.
    """
    import skops.io

    content: bytes = skops.io.dumps(estimator)
    return content, _classes_in(content, "the classifier")


def loads(content: bytes, name: str) -> Any:
    """The classifier in a skops file. name: of the file, or of what it belongs to, for messages.

    Raises ModelError when it holds anything that is not scikit-learn's own.
    """
    import skops.io  # with scikit-learn, a second

    return skops.io.loads(content, trusted=_classes_in(content, name))


def _classes_in(content: bytes, name: str) -> list[str]:
    """The classes of scikit-learn that the file needs beyond those that skops trusts by itself.

    Raises ModelError when it needs others, or is no skops file.
    """
    import skops.io

    try:
        names: list[str] = skops.io.get_untrusted_types(data=content)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ModelError(f"{name}: not a skops file that can be read: {error}; train again") from error
    foreign = [name for name in names if not _is_own_class(name)]
    if foreign:
        raise ModelError(f"{name}: holds what is not scikit-learn's own and is not loaded: {', '.join(foreign)}")
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
