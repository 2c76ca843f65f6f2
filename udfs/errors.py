"""The errors that histolake raises: each message says what failed, where, and what to do."""

from __future__ import annotations


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


class MachineError(HistolakeError):
    """A machine that has run out of disk, memory or open files, or may not write where it should."""


class QueryError(HistolakeError):
    """A person's statement that is refused, fails, is cancelled or outgrows its limits."""
