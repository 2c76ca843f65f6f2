"""Computes one unit of a stage: its input is fed in slices of few rows, or read while it is used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from lake.sql_files import Stage
from lake.storage_faults import read_failure
from lake.units import Unit
from udfs.errors import EncoderError, MachineError, ModelError
from udfs.exhaustion import raise_if_exhausted
from udfs.processors import cores

SLICE_ROWS = 256  # most rows that one call of a UDF sees,
PIXEL_ROWS = 64  # and where patches are cropped, which are large: each slice is in memory some four times
LEAST_SLICE = 32

GENERAL = {each.__name__: each for each in (EncoderError, MachineError, ModelError)}  # what befalls every unit alike


def compute(con: duckdb.DuckDBPyConnection, stage: Stage, unit: Unit, parameters: Mapping[str, Any]) -> pa.Table:
    """The stage's SELECT over one unit: its input is narrowed to the unit, and comes in slices.

    DuckDB hands the slices to its threads, so that UDFs run in parallel on few rows at a time.
    Raises duckdb.Error with the text of what went wrong.
    """
    source = con.query(f'from memory.main."{stage.over}"')  # not the view of that name that hides it below
    conditions = {"slide_id": unit.slide_id, **json.loads(unit.identity)}
    if unit.has_parts:
        conditions["part"] = unit.part
    if "bucket" in source.columns:
        conditions["bucket"] = unit.bucket  # a partition: other slides' files are not opened
    for name, value in conditions.items():
        if name in source.columns:
            source = source.filter(duckdb.ColumnExpression(name) == duckdb.ConstantExpression(value))
    rows = source.order(stage.order) if stage.order else source
    if has_embeddings(con, stage):
        fed = _in_view(con, stage.over, rows)
    else:
        fed = _in_slices(con, stage.over, rows, PIXEL_ROWS if stage.reads_pixels else SLICE_ROWS)
    with fed:
        # not con.sql(…, params=…): DuckDB 1.5 then holds Python's lock while UDFs wait for it
        return con.execute(stage.select, dict(parameters)).to_arrow_table()


def has_embeddings(con: duckdb.DuckDBPyConnection, stage: Stage) -> bool:
    """Whether the stage reads embeddings: smaller than pixels, and slower to convert for a UDF than to score."""
    return "embedding" in con.table(stage.over).columns


@contextmanager
def _in_slices(con: duckdb.DuckDBPyConnection, name: str, rows: duckdb.DuckDBPyRelation, most: int) -> Iterator[None]:
    """Have the name mean the rows, read beforehand, in slices of at most so many."""
    read = rows.to_arrow_table()
    share = -(-read.num_rows // (4 * cores()))
    slices = read.to_batches(max_chunksize=min(most, max(LEAST_SLICE, share)))
    con.register(name, pa.Table.from_batches(slices, read.schema))
    try:
        yield
    finally:
        con.unregister(name)


@contextmanager
def _in_view(con: duckdb.DuckDBPyConnection, name: str, rows: duckdb.DuckDBPyRelation) -> Iterator[None]:
    """Have the name mean the rows, read while they are used, 2,048 at a time."""
    con.execute(f'create or replace temp view "{name}" as {rows.sql_query()}')
    try:
        yield
    finally:
        con.execute(f'drop view temp."{name}"')


def raise_if_general(failure: duckdb.Error) -> None:
    """Raise what is wrong with the encoder, the model, the store or the machine: it is no slide's fault."""
    found = re.search(rf"executing the UDF: ({'|'.join(GENERAL)}): ", str(failure))
    lengths = re.search(
        r"Cannot cast list with length (\d+) to array with length (\d+)|left length '(\d+)' and right length '(\d+)'",
        str(failure),
    )
    if lengths:
        these, model = filter(None, lengths.groups())
        raise ModelError(
            f"the model takes embeddings of {model} numbers, these have {these}; "
            "score features of the encoder it was trained on"
        ) from failure
    if unread := read_failure(failure):
        raise unread from failure
    if found:
        raise GENERAL[found[1]](reason(failure)) from failure
    raise_if_exhausted(failure)


def reason(failure: duckdb.Error) -> str:
    """What went wrong, without DuckDB's and Python's wrapping."""
    text = str(failure).strip()
    wrapped = re.search(r"Python exception occurred while executing the UDF: (?:\w+: )?(.*)", text, re.DOTALL)
    plain = wrapped.group(1) if wrapped else re.sub(r"^[A-Z][\w ]*Error: ", "", text)
    return plain.partition("\n")[0].strip()
