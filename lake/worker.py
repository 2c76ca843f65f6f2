"""Does units of a stage: computes and commits them. The same in this process and on each worker of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lake import session, table_files, threads
from lake.commits import Committer
from lake.compute import compute, has_embeddings, raise_if_general, reason
from lake.prefetch import Ahead, addresses
from lake.sql_files import Stage, is_ours
from lake.units import Outcome, Result, Unit
from udfs.processors import cores
from udfs.slide_cache import stop_fetching
from udfs.slide_readers import readers


@dataclass(frozen=True)
class Job:
    """What a worker must know of a run of a stage.

    versions: of all tables, the moment that the units were planned at. inputs: relations that the stage reads and
    the lake does not hold, by name.
    """

    root: Path
    stage: Stage
    parameters: Mapping[str, Any]
    run_id: str
    versions: Mapping[str, int]
    inputs: Mapping[str, pa.Table]

    def committer(self) -> Committer:
        """What commits results of the job."""
        return Committer(self.root, self.stage, self.parameters, self.run_id, self.versions)


Executor = Callable[[Job, duckdb.DuckDBPyConnection, Sequence[Unit]], Generator[Outcome]]
"""Does the units of a job, and yields what has become of them as it is committed. Left early, it keeps what is done."""


def local(job: Job, con: duckdb.DuckDBPyConnection, units: Sequence[Unit]) -> Generator[Outcome]:
    """Do the units in this process, on the connection that they were planned on."""
    worker = Worker(job, con)
    try:
        yield from worker.do(units)
    finally:  # what is done is kept, also when the run is stopped
        rest = worker.flush()
    yield from rest


class Worker:
    """Computes units on a connection, of which each thread has a cursor, and commits them in groups."""

    def __init__(self, job: Job, con: duckdb.DuckDBPyConnection) -> None:
        self._stage, self._con = job.stage, con
        self._parameters = {name: job.parameters[name] for name in job.stage.parameters}
        self._is_ours = is_ours(job.stage, job.root)
        self._has_embeddings = has_embeddings(con, job.stage)
        self._committer = job.committer()
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._idle: list[duckdb.DuckDBPyConnection] = []
        self._is_stopped = False

    def do(self, units: Sequence[Unit]) -> Generator[Outcome]:
        """Compute the units and commit them once there are enough; yields those that are committed.

        Raises EncoderError or ModelError when what is wrong is no unit's fault.
        """
        is_light = max(unit.rows for unit in units) == 1 or self._has_embeddings  # DuckDB gives it one thread
        with Ahead(units, addresses(self._con, self._stage, units)) as ahead:
            for result in threads.side_by_side(self._compute, ahead, cores() if is_light else 1, self.interrupt):
                ahead.done(result.unit)
                yield from self._committer.add(result)

    def flush(self) -> list[Outcome]:
        """Commit what is computed; returns what that was."""
        return self._committer.flush()

    def interrupt(self) -> None:
        """Stop what is being computed, as soon as the functions that run now return, and start nothing more.

        What is between two statements just now does not hear of it: to be called until all have returned.
        """
        self._is_stopped = True
        for cursor in self._cursors:
            cursor.interrupt()
        stop_fetching()
        readers.stop()

    def _compute(self, unit: Unit) -> Result:
        if self._is_stopped:
            raise duckdb.InterruptException("stopped")
        cursor, start = self._cursor(), time.monotonic()
        rows, error, errors = None, None, 0
        try:
            with self._files_of(cursor, unit):
                rows = compute(cursor, self._stage, unit, self._parameters)
        except duckdb.InterruptException:  # of a run that is being stopped
            raise
        except duckdb.Error as failure:
            if self._is_stopped:
                raise duckdb.InterruptException("stopped") from failure
            raise_if_general(failure)
            error = reason(failure)
        finally:
            self._idle.append(cursor)
        if rows is not None and "error" in rows.column_names:
            texts = rows["error"].drop_null()
            errors, error = len(texts), texts[0].as_py() if len(texts) else None
        return Result(unit, rows, errors, error, time.monotonic() - start)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        try:
            return self._idle.pop()
        except IndexError:
            self._cursors.append(session.cursor(self._con))
            return self._cursors[-1]

    def _files_of(self, cursor: duckdb.DuckDBPyConnection, unit: Unit) -> AbstractContextManager[None]:
        """What a stage of our own reads of the large tables are rows of the unit's slide; of others nobody knows."""
        return table_files.of_slide(cursor, unit.slide_id) if self._is_ours else nullcontext()
