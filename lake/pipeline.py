"""Runs a stage: plan by anti-join, feed in slices, commit unit by unit, keep the ledger."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from lake import executors, session, store
from lake.progress import Progress
from lake.sql_files import Stage, query
from lake.store import Entry, Replacement
from lake.tables import ARROW_TYPES, TABLES, Column, Table
from udfs.errors import EncoderError, HistolakeError, LakeError, ModelError

SLICE_ROWS = 256  # most rows that one call of a UDF sees,
PIXEL_ROWS = 64  # and where patches are cropped, which are large: each slice is in memory some four times
LEAST_SLICE = 32
COMMIT_ROWS = 8192  # results held before they are committed,
COMMIT_SECONDS = 5.0  # and for how long at the most
COMMIT_UNITS = 64

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Unit:
    """What is planned, done, retried and committed at once; see docs/architecture.md."""

    slide_id: str
    identity: str  # JSON of the identity columns
    part: int
    has_parts: bool
    fingerprint: str
    bucket: int
    rows: int  # of the stage's input


@dataclass(frozen=True)
class Result:
    """What became of a unit."""

    unit: Unit
    rows: pa.Table | None  # None when it failed
    errors: int
    error: str | None
    seconds: float

    @property
    def status(self) -> str:
        """'ok', 'empty' or 'failed', as the ledger has it."""
        if self.rows is None or (self.rows.num_rows and self.errors == self.rows.num_rows):
            return "failed"
        return "ok" if self.rows.num_rows else "empty"


@dataclass
class Summary:
    """What a run of a stage did. failures: (slide_id, reason) of failed units and units with bad rows."""

    stage: str
    units: int = 0
    rows: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)


def run_stage(
    root: Path,
    stage: Stage,
    parameters: Parameters,
    *,
    run_id: str,
    slides: Sequence[str] = (),
    retry_failed: bool = False,
    inputs: Mapping[str, pa.Table] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Do all that the stage has not done yet, for slides that match one of the patterns (all if none).

    parameters: the stage's $params, and values that identity columns of its input are kept to.
    inputs: relations that the stage reads and the lake does not hold, by name.
    Failures are recorded and do not stop the run. Raises HistolakeError when the stage itself cannot
    run, e.g. for want of a parameter.
    """
    progress = progress or Progress.silent()
    summary, start = Summary(stage.name), time.monotonic()
    missing = stage.parameters - set(parameters)
    if missing:
        raise HistolakeError(f"stage {stage.name}: no value for {', '.join(f'${name}' for name in sorted(missing))}")
    with session.connect(root, read_only=False) as con:
        for name, rows in (inputs or {}).items():
            con.from_arrow(rows).create(name)
        units = plan(con, stage, parameters, slides, retry_failed)
        if not units:
            return summary
        ensure_table(root, con, stage, parameters)
        committer = _Committer(root, stage, parameters, run_id, session.versions(con))
        worker = _Worker(con, stage, parameters)
        side_by_side = executors.cores() if max(unit.rows for unit in units) == 1 else 1
        with progress.stage(stage.name, units) as bar:
            try:
                for result in executors.local(worker, units, side_by_side, worker.interrupt):
                    committer.add(result)
                    bar.advance(result.unit)
                    summary.units += 1
                    summary.rows += result.rows.num_rows if result.rows is not None else 0
                    if result.error is not None:
                        summary.failures.append((result.unit.slide_id, _with_count(result)))
            finally:  # what is done is kept, also when the run is stopped
                committer.flush()
    store.tidy_ledger(root)
    summary.seconds = time.monotonic() - start
    return summary


def plan(
    con: duckdb.DuckDBPyConnection, stage: Stage, parameters: Parameters, slides: Sequence[str], retry_failed: bool
) -> list[Unit]:
    """The units of the stage's input that its ledger does not know as done, in the order to do them."""
    source = con.table(stage.over)
    given = [name for name in stage.identity if name in source.columns]
    for name in given:
        if parameters.get(name) is not None:
            source = source.filter(duckdb.ColumnExpression(name) == duckdb.ConstantExpression(parameters[name]))
    has_parts = "part" in source.columns
    keys = ["slide_id", *given, "fingerprint", *(["part"] if has_parts else [])]
    counted = source.aggregate(
        [*map(duckdb.ColumnExpression, keys), duckdb.FunctionExpression("count_star").alias("rows")]
    ).pl()
    constants = [pl.lit(parameters[name]).alias(name) for name in stage.identity if name not in given]
    identity = pl.struct(*given, *constants).struct.json_encode() if stage.identity else pl.lit("{}")
    planned = counted.select(
        "slide_id",
        identity.alias("identity"),
        (pl.col("part") if has_parts else pl.lit(0)).cast(pl.Int32).alias("part"),
        "fingerprint",
        "rows",
    )
    con.register("planned", planned.to_arrow())
    undone = con.execute(
        query("pipeline/undone"), {"stage": stage.name, "slides": list(slides), "retry_failed": retry_failed}
    ).fetchall()
    con.unregister("planned")
    return [
        Unit(slide_id, identity, part, has_parts, fingerprint, bucket, rows)
        for slide_id, identity, part, fingerprint, rows, bucket in undone
    ]


class _Worker:
    """Computes units, on a connection of its own for each thread."""

    def __init__(self, con: duckdb.DuckDBPyConnection, stage: Stage, parameters: Parameters) -> None:
        self._con, self._stage = con, stage
        self._parameters = {name: parameters[name] for name in stage.parameters}
        self._of_thread = threading.local()
        self._cursors: list[duckdb.DuckDBPyConnection] = []

    def __call__(self, unit: Unit) -> Result:
        if not hasattr(self._of_thread, "con"):
            self._of_thread.con = session.trace(self._con.cursor())
            self._cursors.append(self._of_thread.con)
        start = time.monotonic()
        rows, error, errors = None, None, 0
        try:
            rows = compute(self._of_thread.con, self._stage, unit, self._parameters)
        except duckdb.Error as failure:
            raise_if_general(failure)
            error = reason(failure)
        if rows is not None and "error" in rows.column_names:
            texts = rows["error"].drop_null()
            errors, error = len(texts), texts[0].as_py() if len(texts) else None
        return Result(unit, rows, errors, error, time.monotonic() - start)

    def interrupt(self) -> None:
        """Stop what is being computed, as soon as the functions that run now return."""
        for cursor in self._cursors:
            cursor.interrupt()


def compute(con: duckdb.DuckDBPyConnection, stage: Stage, unit: Unit, parameters: Parameters) -> pa.Table:
    """The stage's SELECT over one unit: its input is narrowed to the unit and cut into slices.

    DuckDB hands the slices to its threads, so that UDFs run in parallel on few rows at a time.
    Raises duckdb.Error with the text of what went wrong.
    """
    source = con.table(stage.over)
    conditions = {"slide_id": unit.slide_id, **json.loads(unit.identity)}
    if unit.has_parts:
        conditions["part"] = unit.part
    if "bucket" in source.columns:
        conditions["bucket"] = unit.bucket  # a partition: other slides' files are not opened
    for name, value in conditions.items():
        if name in source.columns:
            source = source.filter(duckdb.ColumnExpression(name) == duckdb.ConstantExpression(value))
    rows = (source.order(stage.order) if stage.order else source).to_arrow_table()
    share = -(-rows.num_rows // (4 * executors.cores()))
    most = PIXEL_ROWS if stage.reads_pixels else SLICE_ROWS
    slices = rows.to_batches(max_chunksize=min(most, max(LEAST_SLICE, share)))
    con.register(stage.over, pa.Table.from_batches(slices, rows.schema))
    try:
        # not con.sql(…, params=…): DuckDB 1.5 then holds Python's lock while UDFs wait for it
        return con.execute(stage.select, dict(parameters)).to_arrow_table()
    finally:
        con.unregister(stage.over)


def raise_if_general(failure: duckdb.Error) -> None:
    """Raise what is wrong with the encoder or the model: it would befall every unit, and is no slide's fault."""
    found = re.search(r"executing the UDF: (EncoderError|ModelError): ", str(failure))
    if found:
        raise {"EncoderError": EncoderError, "ModelError": ModelError}[found[1]](reason(failure)) from failure


def reason(failure: duckdb.Error) -> str:
    """What went wrong, without DuckDB's and Python's wrapping."""
    text = str(failure).strip()
    wrapped = re.search(r"Python exception occurred while executing the UDF: (?:\w+: )?(.*)", text, re.DOTALL)
    plain = wrapped.group(1) if wrapped else re.sub(r"^[A-Z][\w ]*Error: ", "", text)
    return plain.partition("\n")[0].strip()


def _with_count(result: Result) -> str:
    error = result.error or ""
    total = result.rows.num_rows if result.rows is not None else 0
    return error if total <= 1 else f"{result.errors} of {total} rows: {error}"


def ensure_table(root: Path, con: duckdb.DuckDBPyConnection, stage: Stage, parameters: Parameters) -> None:
    """Make the table of a stage that the lake has no table for; its columns are the SELECT's."""
    if stage.name in TABLES:
        return
    wanted = {name: parameters[name] for name in stage.parameters}
    described = con.execute(f"describe {stage.select}", wanted).fetchall()
    columns = [Column(row[0], row[1].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"), "") for row in described]
    unknown = [column for column in columns if column.type not in ARROW_TYPES]
    if unknown:
        raise LakeError(f"stage {stage.name}: column {unknown[0].name} has type {unknown[0].type}; cast it")
    if "bucket" not in {column.name for column in columns}:
        columns.append(Column("bucket", "INTEGER", "partition: bucket_of(slide_id)"))
    store.create_table(root, Table(stage.name, stage.about, stage.key, tuple(columns)))


class _Committer:
    """Collects results and commits them, several small units at once."""

    def __init__(
        self, root: Path, stage: Stage, parameters: Parameters, run_id: str, versions: Mapping[str, int]
    ) -> None:
        self._root, self._stage, self._run_id = root, stage, run_id
        self._schema = pa.schema(store.open_table(root, stage.name).schema())
        self._parameters = json.dumps(dict(parameters), sort_keys=True, default=str)
        self._versions = json.dumps(versions, sort_keys=True)
        self._waiting: list[Result] = []
        self._since = time.monotonic()

    def add(self, result: Result) -> None:
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(result)
        rows = sum(each.rows.num_rows for each in self._waiting if each.rows is not None)
        is_old = time.monotonic() - self._since >= COMMIT_SECONDS
        if rows >= COMMIT_ROWS or len(self._waiting) >= COMMIT_UNITS or is_old:
            self.flush()

    def flush(self) -> None:
        computed = [result for result in self._waiting if result.rows is not None]
        broken = [result for result in self._waiting if result.rows is None]
        if computed:
            rows = [self._fitted(each.rows, each.unit) for each in computed if each.rows is not None]
            replacements = [self._replacement(each.unit) for each in computed]
            entries = [self._entry(each) for each in computed]
            store.replace(self._root, self._stage.name, pa.concat_tables(rows), replacements, entries)
        store.record(self._root, [self._entry(result) for result in broken])
        self._waiting = []

    def _fitted(self, rows: pa.Table, unit: Unit) -> pa.Table:
        """The rows with the table's columns and types; the bucket is the unit's."""
        if "bucket" in self._schema.names and "bucket" not in rows.column_names:
            rows = rows.append_column("bucket", pa.array([unit.bucket] * rows.num_rows, pa.int32()))
        return rows.select(self._schema.names).cast(self._schema)

    def _replacement(self, unit: Unit) -> Replacement:
        where: dict[str, store.Value] = {"slide_id": unit.slide_id, **json.loads(unit.identity)}
        if "bucket" in self._schema.names:
            where["bucket"] = unit.bucket
        where = {name: value for name, value in where.items() if name in self._schema.names}
        if not unit.has_parts:
            return Replacement(where)
        wipe = where if "fingerprint" in self._schema.names else None
        return Replacement({**where, "part": unit.part}, wipe, unit.fingerprint)

    def _entry(self, result: Result) -> Entry:
        unit = result.unit
        return Entry(
            run_id=self._run_id,
            stage=self._stage.name,
            slide_id=unit.slide_id,
            identity=unit.identity,
            part=unit.part,
            fingerprint=unit.fingerprint,
            status=result.status,
            rows=result.rows.num_rows if result.rows is not None else 0,
            errors=result.errors,
            error=result.error,
            seconds=result.seconds,
            input_versions=self._versions,
            parameters=self._parameters,
        )
