"""The process that runs one statement: opens the lake, shuts itself in, and answers on its standard output."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import polars as pl
import pyarrow as pa

from lake import session, store
from lake.choices import lake_path
from lake.statement import checked, reason
from lake.storage_faults import read_failure
from lake.workbench import STARTED, Limits
from udfs.errors import HistolakeError, QueryError

THREADS = 2  # of DuckDB
BATCH = 2_048  # rows: DuckDB's vector
COLUMNS = 1_000  # of a result: a browser's table holds no more
FILES = 1_024  # open at once
DEEP = 10_000  # Python's stack, for statements with long chains of operators

NO_ARROW = {"BIGNUM", "BIT", "GEOMETRY", "INTERVAL", "TIME WITH TIME ZONE", "UHUGEINT", "UNION", "VARIANT"}
"""Types that Arrow or Polars lack, or hold with another value."""

SEALS = (
    "set temp_directory = ''",
    "set python_enable_replacements = false",
    "set allow_community_extensions = false",
    "set enable_external_access = false",
    "set lock_configuration = true",
)


def main() -> None:
    """Answer the request on standard input, after what it takes to read the lake, which the command line names."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no part of the answer
    sys.setrecursionlimit(DEEP)
    root = _reached(sys.argv[1], json.loads(sys.stdin.buffer.readline()))
    ready = _opened(root)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    threading.Thread(target=_end_with_parent, daemon=True).start()
    request = json.loads(line)
    root = _reached(sys.argv[1], request["access"])
    limits = Limits(**request["limits"])
    try:
        con = _up_to_date(ready, root, request["at"])
        seal(con, limits)
        confine(limits)
        answers.write(STARTED)
        answers.flush()
        header, body = answer(con, request["statement"], limits)
    except HistolakeError as error:
        header, body = {"error": str(error)}, b""
    except duckdb.Error as error:
        header, body = {"error": f"{root}: cannot be read: {reason(error)}; see `histolake check`"}, b""
    _send(answers, header, body)


def _send(answers: BinaryIO, header: Mapping[str, Any], body: bytes) -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(body)
    answers.flush()
    os._exit(0)  # without taking down DuckDB: a half-read result would be computed to its end


def _reached(lake: str, access: Mapping[str, str]) -> Path:
    """The lake; access: what it takes to read one in object storage."""
    os.environ.update(access)
    return lake_path(lake)


def _opened(root: Path) -> session.Connection | None:
    """The lake, opened before there is a statement; None when it cannot be: whoever asks is told then."""
    try:
        return session.connect(root, udfs=())
    except (HistolakeError, duckdb.Error):
        return None


def _up_to_date(ready: session.Connection | None, root: Path, at: Mapping[str, int]) -> session.Connection:
    if ready is not None and not at and session.versions(ready)["runs"] == store.open_table(root, "runs").version():
        return ready
    return session.connect(root, udfs=(), at=at)


def _end_with_parent() -> None:
    """End when the app does: its end of the pipe closes however it ended."""
    sys.stdin.buffer.read()
    os._exit(1)


def seal(con: session.Connection, limits: Limits) -> None:
    """Leave the connection the files of the tables that it sees, and nothing else outside itself, for good."""
    files = [file for (file,) in con.execute("select unnest(files_of(table_name, null)) from snapshot").fetchall()]
    con.execute("set allowed_paths = $files", {"files": files})
    con.execute("set memory_limit = $limit", {"limit": f"{limits.memory_mb // 2}MiB"})
    con.execute("set threads = $threads", {"threads": THREADS})
    for setting in SEALS:
        con.execute(setting)


def confine(limits: Limits) -> None:
    """Have the kernel end this process when it takes more than its limits, and keep it from writing any file."""
    import resource  # not on Windows, where the parent starts no such process

    spent = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(spent.ru_utime + spent.ru_stime + limits.seconds * THREADS) + 2
    most = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: FILES, resource.RLIMIT_CPU: cpu}
    statm = Path("/proc/self/statm")
    if statm.exists():
        mapped = int(statm.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        most[resource.RLIMIT_AS] = mapped + limits.memory_mb * 2**20
    for what, value in most.items():
        hard = resource.getrlimit(what)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (allowed, allowed))
    signal.setitimer(signal.ITIMER_REAL, limits.seconds + 2)  # should the parent be gone


def answer(con: session.Connection, statement: str, limits: Limits) -> tuple[dict[str, Any], bytes]:
    """What is known of the answer, and its first rows as an Arrow stream.

    con: a sealed connection. Raises QueryError.
    """
    try:
        text = checked(con, statement)
        con.execute(text)
        names = [column[0] for column in con.description or ()]
        types = [str(column[1]) for column in con.description or ()]
        if len(names) > COLUMNS:
            raise QueryError(f"the result has {len(names):,} columns; at most {COLUMNS:,} are shown, so select fewer")
        reader = _reader(con, text, types)
        batches, cut = _first_rows(reader, limits)
    except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
        raise QueryError(_too_large(limits)) from None
    except (duckdb.Error, pa.ArrowException, OSError, ValueError) as error:
        why = str(read_failure(error) or reason(error))
        raise QueryError(_too_large(limits) if "bad_alloc" in why or "Out of Memory" in why else why) from None
    body = io.BytesIO()
    as_frame(names, pa.Table.from_batches(batches, reader.schema)).write_ipc_stream(body)
    data = body.getvalue()
    return {"types": types, "cut": cut, "versions": session.versions(con), "length": len(data)}, data


def _reader(con: session.Connection, text: str, types: Sequence[str]) -> pa.RecordBatchReader:
    """The rows of the statement that was begun; it begins anew where columns must become text."""
    is_text = [each.partition("(")[0] in NO_ARROW for each in types]
    if not any(is_text):
        return con.to_arrow_reader(BATCH)
    columns = [duckdb.SQLExpression(f"#{number}") for number, _ in enumerate(types, start=1)]
    chosen = [one.cast("VARCHAR") if odd else one for one, odd in zip(columns, is_text, strict=True)]
    return con.sql(text).select(*chosen).to_arrow_reader(BATCH)


def _too_large(limits: Limits) -> str:
    return f"the statement needs more than its {limits.memory_mb:,} MB of memory; narrow it, e.g. by a slide or a limit"


def _first_rows(reader: Iterable[pa.RecordBatch], limits: Limits) -> tuple[list[pa.RecordBatch], str | None]:
    """As many rows as the limits allow, and the limit that cut off others."""
    taken: list[pa.RecordBatch] = []
    rows, size = limits.rows, limits.bytes
    for batch in reader:
        kept = batch.slice(0, rows)
        while kept.num_rows and kept.nbytes > size:
            kept = kept.slice(0, kept.num_rows // 2)
        taken.append(kept)
        if kept.num_rows < batch.num_rows:
            cut = "rows" if kept.num_rows == rows else "bytes"
            if cut == "bytes" and not any(one.num_rows for one in taken):
                raise QueryError(f"a single row is larger than {limits.bytes / 2**20:g} MB; select less of it")
            return taken, cut
        rows, size = rows - kept.num_rows, size - kept.nbytes
    return taken, None


def as_frame(names: Iterable[str], table: pa.Table) -> pl.DataFrame:
    """A result as a Polars frame: columns of the same name are numbered, types that Polars lacks become text."""
    told_apart = _told_apart(names)
    return pl.DataFrame([_series(name, column) for name, column in zip(told_apart, table.columns, strict=True)])


def _told_apart(names: Iterable[str]) -> list[str]:
    told: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in told:
            number += 1
            unique = f"{name}_{number}"
        told.append(unique)
    return told


def _series(name: str, column: pa.ChunkedArray) -> pl.Series:
    try:
        series = pl.Series(name, column)
    except pl.exceptions.PolarsError:  # intervals and unions within lists or structs
        series = pl.Series(name, [None if v is None else str(v) for v in column.to_pylist()], pl.String)
    if isinstance(series.dtype, pl.Decimal) and series.dtype.scale == 0:  # a sum of whole numbers
        try:
            return series.cast(pl.Int64)
        except pl.exceptions.InvalidOperationError:
            return series
    return series


if __name__ == "__main__":
    main()
