"""What slides in object storage and on web servers have in common: their files, versions and errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import ModuleType
from typing import Protocol, TypeVar

from udfs.addresses import checked
from udfs.errors import FetchError


class BrokenError(FetchError):
    """Trouble that may pass: the network, or a server that is busy. Worth trying again."""


class ChangedError(FetchError):
    """What is served is no longer the version that was asked for."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that is served: its address, bytes, and what tells its versions apart.

    name: where it belongs, relative to the folder of the slide's own file. version: the ETag, else
    when it was modified; empty where the server tells neither.
    """

    address: str
    name: str
    size: int
    version: str


class Store(Protocol):
    """How files of one kind of address are read. All raise FetchError, naming the address."""

    def files(self, address: str) -> list[RemoteFile]:
        """The slide's file first, then those that belong to it."""

    def open(self, file: RemoteFile, start: int) -> tuple[int, Iterator[bytes]]:
        """The file's bytes from `start` on, or from wherever the server begins, and where that is.

        Raises ChangedError when another version is served.
        """

    def samples(self, file: RemoteFile, places: Sequence[int], size: int) -> list[bytes] | None:
        """`size` bytes from each of these places, fewer at the end; None where the server gives only whole files."""

    def find(self, pattern: str, endings: set[str]) -> list[str]:
        """The addresses of slides that a pattern means: a file, a folder searched for `endings`, or a glob."""


def store_of(address: str) -> Store:
    """What reads this address. Raises SlideError for one that may not be kept, see `addresses.checked`."""
    module: ModuleType
    if checked(address).startswith("s3://"):
        from udfs import remote_s3 as module
    else:
        from udfs import remote_http as module
    store: Store = module.STORE
    return store


_File = TypeVar("_File", bound=PurePath)


def one_a_series(files: Sequence[_File]) -> list[_File]:
    """Of a folder with several DICOM files, which are one slide, the first; all other files."""
    series = {file.parent: file for file in reversed(files) if file.suffix.lower() == ".dcm"}
    return [file for file in files if file.suffix.lower() != ".dcm" or series[file.parent] == file]
