"""The Parquet files behind the tables of a connection: all of a version, or those that may hold rows of one slide.

A table is a view over the files that the SQL function `files_of` names, and DuckDB asks it anew for every query. So
opening a lake does not have DuckDB look through thousands of files, and a query about one slide need not look into
those of others: the statistics in Delta's log tell which files may hold it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from urllib.parse import unquote

import duckdb
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from duckdb.func import FunctionNullHandling, PythonUDFType

from lake import storage
from udfs.errors import LakeError

SLIDE = "histolake_slide"  # variable of a connection: the slide whose files are enough
BUCKETS = 16
EXTREMES = ("min.slide_id", "max.slide_id")
NO_SLIDE = ""  # it has no rows, so that one file, for the columns' types, is enough


class Files:
    """The files of a table's version, and which slides may be in each; Delta's own state takes far more memory."""

    def __init__(self, folder: str, table: DeltaTable) -> None:
        self._folder = folder
        held = pl.DataFrame(table.get_add_actions(flatten=True))
        known = {name: pl.col(name) if name in held.columns else pl.lit(None, pl.String) for name in EXTREMES}
        paths = held["path"] if held.width else pl.Series(dtype=pl.String)
        if paths.str.contains("%", literal=True).any():  # in the log they are escaped
            paths = pl.Series([unquote(path) for path in paths], dtype=pl.String)
        self._files = held.select((f"{folder}/" + paths).alias("file"), **known)
        self._buckets: list[pl.DataFrame] | None = None
        if "partition.bucket" in held.columns:
            number = held["partition.bucket"]
            self._buckets = [self._files.filter(number == bucket) for bucket in range(BUCKETS)]
            self._files = self._files.select("file")

    @property
    def all(self) -> list[str]:
        """All of them."""
        return self._files["file"].to_list()

    @property
    def any(self) -> list[str]:
        """One of them, if there is one: without a file DuckDB knows no columns."""
        return self._files["file"][:1].to_list()

    def of(self, slide_id: str) -> list[str]:
        """Those that may hold rows of the slide; any one where none does."""
        if self._buckets is None:
            return self.all
        least, most = map(pl.col, EXTREMES)
        is_within = (least.is_null() | (least <= slide_id)) & (most.is_null() | (most >= slide_id))
        return self._buckets[bucket_of(slide_id)].filter(is_within)["file"].to_list() or self.any

    @cached_property
    def missing(self) -> str | None:
        """One that is not there."""
        return storage.missing(self._folder, self.all)


def bucket_of(slide_id: str) -> int:
    """As the macro `bucket_of` of SQL has it."""
    digest = hashlib.md5(slide_id.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") % BUCKETS


def register(con: duckdb.DuckDBPyConnection, files: Mapping[str, Files]) -> None:
    """Make `files_of(table, slide_id)` callable: paths of files; of all files of the table where slide_id is NULL."""

    def files_of(names: pa.ChunkedArray, slides: pa.ChunkedArray) -> pa.Array:
        asked = zip(names.to_pylist(), slides.to_pylist(), strict=True)
        found = [files[name].all if slide is None else files[name].of(slide) for name, slide in asked]
        return pa.array(found, pa.list_(pa.string()))

    con.create_function(  # without side effects: DuckDB calls it while it plans, when it has to know the files
        "files_of",
        files_of,
        [duckdb.type("VARCHAR"), duckdb.type("VARCHAR")],
        duckdb.list_type(duckdb.type("VARCHAR")),
        type=PythonUDFType.ARROW,
        null_handling=FunctionNullHandling.SPECIAL,
    )


def attach(con: duckdb.DuckDBPyConnection, name: str, table: DeltaTable, columns: pa.Schema, files: Files) -> None:
    """Make a table that has files readable under its name.

    Raises LakeError when a file is not there, duckdb.Error when the first one cannot be read.
    """
    if (missing := files.missing) is not None:
        raise LakeError(f"{missing} is not there")
    folders = table.metadata().partition_columns
    types = ", ".join(f"{_quoted(each)}: {_type(columns.field(each).type)}" for each in folders)
    parsed = f"true, hive_types = {{{types}}}" if folders else "false"
    # where there are buckets all rows are of slides; other tables, as the ledger, are read as a whole
    slide = f"getvariable('{SLIDE}')::varchar" if "bucket" in folders else "null"
    source = f"parquet_scan(files_of('{name}', {slide}), hive_partitioning = {parsed})"
    with of_slide(con, NO_SLIDE):
        con.execute(f'create view "{name}" as select {", ".join(map(_quoted, columns.names))} from {source}')  # noqa: S608


@contextmanager
def of_slide(con: duckdb.DuckDBPyConnection, slide_id: str) -> Iterator[None]:
    """For queries that ask for rows of this slide alone: what the connection sees of others is not complete meanwhile.

    Its large tables are the files that may hold rows of the slide: of thousands a few.
    """
    con.execute(f"set variable {SLIDE} = $slide", {"slide": slide_id})
    try:
        yield
    finally:
        con.execute(f"reset variable {SLIDE}")


def _type(of: pa.DataType) -> str:
    return "bigint" if pa.types.is_integer(of) else "varchar"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
