"""The bytes of an annotation file, of a size that it makes sense to read."""

from __future__ import annotations

from pathlib import Path

from udfs.errors import AnnotationError

LARGEST = 2**28  # bytes; read into memory, a file takes up to thirty times as much


def content_of(path: Path) -> bytes:
    """What the file holds. Raises AnnotationError when it is no file, cannot be read, or is too large."""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe would be read for ever
            raise AnnotationError(f"{path}: cannot be read (not a file); name the annotation file itself")
        size = path.stat().st_size
        if size > LARGEST:
            raise AnnotationError(
                f"{path}: {size / 2**20:,.0f} MB, at most {LARGEST / 2**20:,.0f}; "
                "export the annotations alone, without cells and detections"
            )
        return path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}); was the file moved?") from None
    except ValueError as error:  # a name that no file can have
        raise AnnotationError(f"{path}: cannot be read ({error}); was the file moved?") from None
