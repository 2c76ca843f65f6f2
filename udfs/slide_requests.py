"""Asks readers for what a slide has, and asks again where one ended: only what is at fault has an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

from udfs.areas import Cut, FileState, Pixels
from udfs.errors import SlideError
from udfs.slide_cache import LocalFile
from udfs.slide_process import EndedError
from udfs.slide_readers import readers

MOST_CUTS = 64  # of one request: what has to be asked again where one of them ends the reader
MOST_ENDS = 3  # readers that a file may end before it is read no more

Take = Callable[[Pixels], None]


@dataclass(frozen=True)
class Source:
    """A slide's file. path: or address, as errors name it."""

    path: str
    file: LocalFile
    state: FileState


class _Ends:
    """How many readers each file has ended, and how it ended the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[FileState, tuple[int, str]] = {}

    def add(self, state: FileState, number: int, why: str) -> None:
        """Count more of them, or less."""
        with self._lock:
            self._known[state] = self._known.get(state, (0, ""))[0] + number, why

    def refusal(self, state: FileState) -> str | None:
        """Why the file is read no more, if so."""
        with self._lock:
            count, why = self._known.get(state, (0, ""))
        return f"{why}; the {count}th time, so that it is left alone" if count >= MOST_ENDS else None


_ends = _Ends()


def properties(source: Source) -> dict[str, str]:
    """As `udfs.slide.metadata`. Raises SlideError."""
    found: dict[str, str] = _found(source, "properties")
    return found


def size(source: Source) -> tuple[int, int]:
    """Width and height of the slide, level-0 px. Raises SlideError."""
    width, height = _found(source, "size")
    return width, height


def _found(source: Source, what: str) -> Any:
    def ask() -> dict[str, Any]:
        return _ask(source, what, {}, lambda _: None)

    answer, why = _tried(source, ask)
    if why is not None:
        answer, why = _tried(source, ask)  # perhaps another slide was at fault, which the reader had open
        if why is None:
            _ends.add(source.state, -1, "")
    if answer is None:
        raise SlideError(f"{source.path}: the slide cannot be opened ({why}); copy or convert it again")
    if "error" in answer:
        raise SlideError(answer["error"])
    return answer["found"]


def read(source: Source, cuts: Sequence[Cut], out: Pixels) -> list[str | None]:
    """Read sensible cuts into `out`, (bytes,), one after the other; why each of those that are left out cannot be read.

    out: has room for all.
    """
    errors: list[str | None] = []
    for start in range(0, len(cuts), MOST_CUTS):
        some = cuts[start : start + MOST_CUTS]
        found = _read_some(source, some, out)
        out = out[_length(some, found) :]
        errors += found
    return errors


def _length(cuts: Sequence[Cut], errors: Sequence[str | None]) -> int:
    return sum(cut.bytes for cut, error in zip(cuts, errors, strict=True) if error is None)


def _read_some(source: Source, cuts: Sequence[Cut], out: Pixels) -> list[str | None]:
    answer, _ = _tried(source, partial(_read_into, source, cuts, out))
    if answer is not None:
        found: list[str | None] = answer["errors"]
        return found
    errors: list[str | None] = []
    has_ended = False
    for cut in cuts:  # alone, and what the reader that ended has handed over counts for nothing
        answer, why = _tried(source, partial(_read_into, source, [cut], out))
        if answer is None:
            has_ended = True
            error = f"{source.path}: cannot read {cut} ({why}); copy or convert the slide again"
        else:
            [error] = answer["errors"]
        out = out[_length([cut], [error]) :]
        errors.append(error)
    if not has_ended:
        _ends.add(source.state, -1, "")
    return errors


def _read_into(source: Source, cuts: Sequence[Cut], out: Pixels) -> dict[str, Any]:
    at = 0

    def take(pixels: Pixels) -> None:
        nonlocal at
        out[at : at + pixels.size] = pixels
        at += pixels.size

    return _ask(source, "read", {"cuts": [(*astuple(cut.area), cut.width, cut.height) for cut in cuts]}, take)


def _tried(source: Source, ask: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any] | None, str | None]:
    """The answer, or why there is none."""
    why = _ends.refusal(source.state)
    if why is not None:
        return None, why
    try:
        return ask(), None
    except EndedError as error:
        _ends.add(source.state, 1, str(error))
        return None, str(error)


def _ask(source: Source, do: str, asked: dict[str, Any], take: Take) -> dict[str, Any]:
    with readers.lend(source.state, source.file) as reader:
        about = {"path": source.path, "state": source.state}
        return reader.ask({"do": do, "with": {**about, **asked}}, take)
