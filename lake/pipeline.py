"""Runs a stage: plan by anti-join, feed in slices, commit unit by unit, keep the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from lake import creation, session, store, table_files
from lake.progress import Progress
from lake.sql_files import Stage, is_ours, query
from lake.tables import ARROW_TYPES, TABLES, Column, Table
from lake.units import Unit
from lake.worker import Executor, Job, local
from udfs.errors import HistolakeError, LakeError

Parameters = Mapping[str, Any]


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
    executor: Executor = local,
    progress: Progress | None = None,
) -> Summary:
    """Do all that the stage has not done yet, for slides that match one of the patterns (all if none).

    parameters: the stage's $params, and values that identity columns of its input are kept to.
    inputs: relations that the stage reads and the lake does not hold, by name. executor: what computes and commits.
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
        is_alone = len(_names(slides)) == 1 and is_ours(stage, root)
        with table_files.of_slide(con, slides[0]) if is_alone else nullcontext():
            units = plan(con, stage, parameters, slides, retry_failed)
        if not units:
            return summary
        ensure_table(root, con, stage, parameters)
        job = Job(root, stage, parameters, run_id, session.versions(con), inputs or {})
        with progress.stage(stage.name, units) as bar, closing(executor(job, con, units)) as outcomes:
            for outcome in outcomes:
                bar.advance(outcome.unit)
                summary.units += 1
                summary.rows += outcome.rows
                if outcome.failure is not None:
                    summary.failures.append((outcome.unit.slide_id, outcome.failure))
    store.tidy_ledger(root)
    summary.seconds = time.monotonic() - start
    return summary


def plan(
    con: duckdb.DuckDBPyConnection, stage: Stage, parameters: Parameters, slides: Sequence[str], retry_failed: bool
) -> list[Unit]:
    """The units of the stage's input that its ledger does not know as done, in the order to do them."""
    source = con.table(stage.counts or stage.over)  # to count what a million slides have takes an hour
    given = [name for name in stage.identity if name in source.columns]
    for name in given:
        if parameters.get(name) is not None:
            source = source.filter(duckdb.ColumnExpression(name) == duckdb.ConstantExpression(parameters[name]))
    if names := _names(slides):  # or the rows of all slides would be counted
        source = source.filter(duckdb.ColumnExpression("slide_id").isin(*map(duckdb.ConstantExpression, names)))
    has_parts = "part" in source.columns
    keys = ["slide_id", *given, "fingerprint", *(["part"] if has_parts else [])]
    how_many = ("sum", duckdb.ColumnExpression("rows")) if stage.counts else ("count_star",)
    counted = source.aggregate(
        [*map(duckdb.ColumnExpression, keys), duckdb.FunctionExpression(*how_many).cast("BIGINT").alias("rows")]
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


def _names(slides: Sequence[str]) -> Sequence[str]:
    """The patterns, if each of them can only be a slide's name; else nothing."""
    return () if any(set(pattern) & set("*?[\\") for pattern in slides) else slides


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
    creation.create_table(root, Table(stage.name, stage.about, stage.key, tuple(columns)))
