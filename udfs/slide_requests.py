"""Asks readers for what a slide has, and asks again where one ended: only what is at fault has an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from udfs.areas import Cut, FileState, Pixels
from udfs.errors import SlideError
from udfs.slide_cache import LocalFile
from udfs.slide_process import STALL_SECONDS, EndedError
from udfs.slide_readers import readers

MOST_CUTS = 64  # of one request: what has to be asked again where one of them ends the reader
MOST_ENDS = 3  # readers that a file may end before it is read no more for a while,
FORGIVEN_SECONDS = 3600.0  # this long after the last
PATCH_SECONDS = 1.0  # of a processor that a cut may take,
PIXEL_SECONDS = 2e-7  # and for each px of its area, level 0; what takes longer counts, STALL_SECONDS as a reader ended

Take = Callable[[Pixels], None]
Answer = dict[str, Any]
Told = tuple[Answer | None, str | None]  # the answer, or why there is none


@dataclass(frozen=True)
class Source:
    """A slide's file. path: or address, as errors name it."""

    path: str
    file: LocalFile
    state: FileState


class _Ends:
    """How many readers each file has ended of late, how it ended the last one, and when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[FileState, tuple[float, str, float]] = {}

    def add(self, state: FileState, number: float, why: str) -> None:
        """Count more of them, or less."""
        with self._lock:
            count, before = self._of_late(state)
            self._known[state] = max(0.0, count + number), why or before, time.monotonic()

    def refusal(self, state: FileState) -> str | None:
        """Why the file is read no more, if so."""
        with self._lock:
            count, why = self._of_late(state)
        return f"{why}, again and again, so that it is left alone for now" if count >= MOST_ENDS else None

    def _of_late(self, state: FileState) -> tuple[float, str]:
        count, why, at = self._known.get(state, (0.0, "", 0.0))
        return (count, why) if time.monotonic() - at < FORGIVEN_SECONDS else (0.0, "")


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
    def ask() -> Told:
        return _ask(source, what, {}, lambda _: None, lambda answer: not answer.keys().isdisjoint(("found", "error")))

    answer, why = ask()
    if why is not None:
        answer, why = ask()  # perhaps another slide was at fault, which the reader had open
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
    answer, _ = _read_into(source, cuts, out)
    if answer is not None:
        found: list[str | None] = answer["errors"]
        return found
    errors: list[str | None] = []
    has_ended = False
    for cut in cuts:  # alone, and what the reader that ended has handed over counts for nothing
        answer, why = _read_into(source, [cut], out)
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


def _read_into(source: Source, cuts: Sequence[Cut], out: Pixels) -> Told:
    at = 0

    def take(pixels: Pixels) -> None:
        nonlocal at
        out[at : at + pixels.size] = pixels
        at += pixels.size

    def is_sound(answer: Answer) -> bool:
        """Whether it tells of every cut, and brought the pixels of those that it says it has read."""
        errors = answer.get("errors")
        return (
            isinstance(answer.get("seconds"), float)
            and isinstance(errors, list)
            and all(error is None or isinstance(error, str) for error in errors)
            and len(errors) == len(cuts)
            and at == _length(cuts, errors)
        )

    asked = {"cuts": [(*astuple(cut.area), cut.width, cut.height) for cut in cuts]}
    answer, why = _ask(source, "read", asked, take, is_sound)
    if answer is not None:
        most = sum(PATCH_SECONDS + PIXEL_SECONDS * cut.area.width * cut.area.height for cut in cuts)
        if answer["seconds"] > most:
            _ends.add(source.state, (answer["seconds"] - most) / STALL_SECONDS, "its pixels take too long to decode")
    return answer, why


def _ask(source: Source, do: str, asked: Answer, take: Take, is_sound: Callable[[Answer], bool]) -> Told:
    why = _ends.refusal(source.state)
    if why is not None:
        return None, why
    try:
        with readers.lend(source.state, source.file) as reader:
            why = _ends.refusal(source.state)  # perhaps the one that had the reader before has found out
            if why is not None:
                return None, why
            about = {"path": source.path, "state": source.state}
            answer = reader.ask({"do": do, "with": {**about, **asked}}, take)
            if not is_sound(answer):
                raise EndedError("its reader's answer made no sense")
    except EndedError as error:
        _ends.add(source.state, 1, str(error))
        return None, str(error)
    return answer, None
