"""Reads JSON files and, from what is in them, lists of vertices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from udfs.annotations.content import content_of
from udfs.annotations.shapes import Ring, check_finite, check_name
from udfs.errors import AnnotationError, quoted


def read_json(path: Path) -> Any:
    """What the JSON file holds. Raises AnnotationError when it cannot be read, or is not JSON."""
    content = content_of(path)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not UTF-8 text ({error.reason}); export it again") from None
    except ValueError as error:
        raise AnnotationError(f"{path}: not well-formed JSON ({error}); export it again") from None
    except RecursionError:
        raise AnnotationError(f"{path}: nested too deeply for annotations; export it again") from None


def text_of(path: Path, value: Any) -> str:
    """A name or a class in a JSON file: a text, or a number. Raises AnnotationError for anything else."""
    if not isinstance(value, (str, int, float)):
        raise AnnotationError(f"{path}: an annotation has a name or a class that is no text; export it again")
    return check_name(path, str(value))


def vertices(path: Path, name: str, positions: Any) -> Ring:
    """The positions [x, y, …] of a JSON list as vertices, level-0 pixels; what follows x and y is left out.

    Raises AnnotationError for what is not a list of such lists of numbers, and for numbers that no slide can hold.
    """
    if not isinstance(positions, list):
        raise AnnotationError(f"{path}: annotation {quoted(name)} has no list of vertices; export it again")
    for number, position in enumerate(positions, start=1):
        if not isinstance(position, list) or len(position) < 2 or not all(map(_is_number, position[:2])):
            raise AnnotationError(
                f"{path}: annotation {quoted(name)}, vertex {number}: not two numbers; export it again"
            )
    ring = [(position[0], position[1]) for position in positions]
    check_finite(path, name, ring)
    return [(float(x), float(y)) for x, y in ring]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
