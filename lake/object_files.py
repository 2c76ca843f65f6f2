"""The Parquet files of tables in object storage, for DuckDB: it reads these, by ranges, and no other object.

DuckDB's own extension for object storage would be downloaded. The files' sizes stand in Delta's log, and a file never
changes, so that nothing is asked of the store but the ranges that are read.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import fsspec
import polars as pl
from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler

from lake import storage
from lake.storage_faults import reason
from udfs.errors import StorageError

UNCHANGED = datetime(2000, 1, 1, tzinfo=UTC)  # DuckDB keeps what it read of a file while this is the same


class TableFiles:
    """The files of one version of a table."""

    def __init__(self, table: DeltaTable) -> None:
        self._uri = table.table_uri.rstrip("/")
        files = pl.DataFrame(table.get_add_actions(flatten=True)).select("path", "size_bytes")
        self.sizes = dict(files.rows())
        self._opened: tuple[dict[str, str], DeltaStorageHandler] | None = None
        self._opening = threading.Lock()

    def open(self, name: str) -> Any:
        """The file, to be read."""
        options = storage.options(self._uri) or {}
        with self._opening:
            if self._opened is None or self._opened[0] != options:  # credentials that run out are others now
                self._opened = (options, DeltaStorageHandler(self._uri, options, self.sizes))
            handler = self._opened[1]
        return _File(handler.open_input_file(name), f"{self._uri}/{name}")

    @property
    def folder(self) -> str:
        """The address that the files' names follow."""
        return self._uri + "/"


class _File:
    """A file that DuckDB reads: what the store says against it is raised as a StorageError."""

    def __init__(self, file: Any, address: str) -> None:
        self._file, self._address = file, address

    def read(self, size: int) -> Any:
        """The next bytes."""
        try:
            return self._file.read(size)
        except OSError as error:
            raise StorageError(f"{self._address}: {reason(error)}") from error

    def seek(self, position: int) -> int:
        """Go on reading at that byte."""
        return int(self._file.seek(position))

    def tell(self) -> int:
        """Where the next bytes are."""
        return int(self._file.tell())

    def close(self) -> None:
        """Let it go."""
        self._file.close()


class ObjectFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """What DuckDB asks of a file system, for the files of tables alone: others are not there."""

    protocol = "s3"
    cachable = False

    def __init__(self, tables: Mapping[str, DeltaTable]) -> None:
        super().__init__()
        self._files = {
            each.folder + unquote(name): (each, name, size)  # in the log they are escaped
            for each in map(TableFiles, tables.values())
            for name, size in each.sizes.items()
        }

    def _found(self, path: str) -> tuple[TableFiles, str, int]:
        if path not in self._files:
            raise FileNotFoundError(f"{path}: no file of the lake's tables")
        return self._files[path]

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of that name; there are no patterns."""
        return [path] if path in self._files else []

    def unstrip_protocol(self, name: str) -> str:
        """The name, which is the whole address."""
        return name

    def exists(self, path: str, **_: Any) -> bool:
        """Whether a table has that file."""
        return path in self._files

    def size(self, path: str) -> int:
        """Of the file, bytes."""
        return self._found(path)[2]

    def modified(self, path: str) -> datetime:
        """Always the same: files of Delta tables do not change."""
        return UNCHANGED

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """The file, to be read and never written."""
        if mode != "rb":
            raise PermissionError(f"{path}: only to be read")
        table, name, _size = self._found(path)
        return table.open(name)
