"""Files that commands leave for other programs: complete, or as they were before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from udfs.errors import HistolakeError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written there takes its place at the end, and nothing on an error.

    The folder is made. Raises HistolakeError when the file cannot be written.
    """
    partial = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise HistolakeError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if partial.exists():
            partial.unlink()
