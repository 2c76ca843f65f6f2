"""The errors that histolake raises: each message says what failed, where, and what to do."""

from __future__ import annotations

SHOWN = 80  # characters of what somebody wrote that a message repeats


def quoted(text: str) -> str:
    """What somebody wrote, for a message: in quotes, in one line, cut off where it is long."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def shortened(text: str) -> str:
    """What a library says, for a message: in one line, cut off where it is long."""
    kept = text if len(text) <= 2 * SHOWN else f"{text[: 2 * SHOWN]}…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in kept)


class HistolakeError(Exception):
    """Something that a user can understand and mend; the command line prints it as one line."""


class SlideError(HistolakeError):
    """A slide, or a region of it, that cannot be opened or read."""


class FetchError(SlideError):
    """A slide that cannot be fetched to this machine."""


class MissingError(FetchError):
    """A slide that is not at its address."""


class TileError(HistolakeError):
    """A tile that a slide's pyramid does not have."""


class AnnotationError(HistolakeError):
    """An annotation file that cannot be understood."""


class EncoderError(HistolakeError):
    """An encoder that cannot be built, verified or run as it was declared."""


class ModelError(HistolakeError):
    """A model that cannot be trained, loaded or applied."""


class LakeError(HistolakeError):
    """A lake that cannot be opened, read or written."""


class StorageError(LakeError):
    """Object storage that cannot be reached, or refuses."""


class QueryError(HistolakeError):
    """A person's statement that is refused, fails, is cancelled or outgrows its limits."""
