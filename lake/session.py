"""The one way to a DuckDB connection on a lake: its tables as of one moment, its views, its functions."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

import udfs.annotations
import udfs.files
import udfs.geometry
import udfs.image
import udfs.lesions
import udfs.slide
import udfs.slide_properties
import udfs.tissue  # noqa: F401  (the modules register their functions when imported)
from lake import creation, encoder_cache, sql_files, storage, store, table_files
from lake.choices import lake_path, tracing
from lake.storage_faults import read_failure
from lake.table_files import Files
from lake.tables import FORMAT, TABLES
from udfs.embed import embed_udf
from udfs.encoders.encoder import Encoder, EncoderSpec
from udfs.errors import EncoderError, LakeError, StorageError
from udfs.exhaustion import raise_if_exhausted
from udfs.predict import Model, predict_udf
from udfs.processors import cores
from udfs.registry import UDFS, Udf

Connection = duckdb.DuckDBPyConnection

ANSWER_ROOM = "256MB"  # of an answer that DuckDB computes ahead of whoever takes it
ENCODER_FILE = "encoder.onnx"  # in a folder of the lake's onnx/ that its hash names


providers: dict[str, str] = {}
"""What computes each encoder that this process has loaded: CUDA, OpenVINO or CPU."""


def connect(
    path: str | Path | None = None,
    *,
    read_only: bool = True,
    udfs: Iterable[str] | None = None,
    at: Mapping[str, int] | None = None,
) -> duckdb.DuckDBPyConnection:
    """DuckDB with the lake's tables and views, all as of one consistent moment, and its functions.

    path: the lake, see `lake_path`. read_only=False makes a lake that is not there and mends its
    ledger. udfs: names of the functions wanted; all of them by default; views of the lake that call
    another are not there. at: the Delta version of single tables to read instead. The encoder and
    scikit-learn are loaded by the first call that needs them.
    The table `snapshot` tells which version of every table is seen; `functions` lists the UDFs.
    Raises LakeError when there is no lake, or it was written by a newer histolake.
    """
    root = lake_path(path)
    if read_only and not store.is_lake(root):
        raise LakeError(f"{root}: no lake here; name another with --lake, or make one with `histolake ingest`")
    if read_only and not creation.is_complete(root):
        raise LakeError(f"{root}: made by an older histolake; `histolake optimize` gives it the tables it lacks")
    if not read_only:
        creation.create(root)
        store.repair(root)
    tables = store.snapshot(root, at)
    con = new_connection()
    for name, table in tables.items():
        con.register(name, _schema(table).empty_table())
    _describe(con, {name: table.version() for name, table in tables.items()})
    _register(con, root, udfs, tables["models"].version())
    _create_views(con, root)  # before the tables have files, which each mention in a view would look through
    _attach_all(con, root, tables, at or {})
    _refuse_newer(con, root)
    return con


def apart(root: Path, name: str) -> Connection:
    """DuckDB with one of the tables that no other connection shows, see tables.APART, as it is now."""
    con = new_connection()
    _attach_all(con, root, {name: store.open_table(root, name)}, {})
    return con


def new_connection() -> Connection:
    """DuckDB as the lake's connections are, without tables, views or functions."""
    con = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "threads": str(cores()),
        }
    )
    con.execute("set timezone = 'UTC'")
    _buffer(con)
    if con.execute("select current_setting('enable_progress_bar')").fetchall() == [(True,)]:  # else Jupyter may refuse
        con.execute("set enable_progress_bar = false")  # it would stand among what a command prints
    return trace(con)


def cursor(con: Connection) -> Connection:
    """Another connection on the same moment, for a thread of its own.

    It keeps `con`: functions belong to the connection that they were made for, DuckDB frees them with it, and would
    call what is no longer there. Views call one, `files_of`, whenever a table is read.
    """
    found = con.cursor()
    weakref.finalize(found, _kept, con).atexit = False
    _buffer(found)
    return trace(found)


def _buffer(con: Connection) -> None:
    """Have a connection, or a cursor of one, hold as much of an answer as a unit of work gives.

    Of 1 MB, DuckDB's own choice, a thread that finds it full computes no more, and one alone goes on.
    """
    con.execute("set streaming_buffer_size = $room", {"room": ANSWER_ROOM})


def _kept(_: Connection) -> None:
    """Lets go of a connection when its cursor has gone."""


def trace(con: Connection) -> Connection:
    """Have the connection, or a cursor of one, print its statements if `tracing` is on; returns it."""
    if tracing.on:
        con.execute("set log_query_path = '/dev/stderr'")
    return con


def read(table: str, path: str | Path | None = None, *, at: Mapping[str, int] | None = None) -> pl.DataFrame:
    """A table or view of the lake as a Polars frame."""
    with connect(path, at=at) as con:
        try:
            return con.table(table).pl()
        except duckdb.CatalogException:
            names = ", ".join(sorted(row[0] for row in con.sql("show tables").fetchall()))
            raise LakeError(f"{lake_path(path)}: no table {table!r}; there are {names}") from None


def versions(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Delta version of every table that the connection sees."""
    return dict(con.execute("select table_name, version from snapshot order by table_name").fetchall())


def functions(root: Path, dims: int | None = None) -> dict[str, Udf]:
    """All functions of a lake, by name. Encoders and models are loaded on first call.

    dims: the length of the embeddings that all models take; None where there are several, or no model.
    """
    stateful = [
        embed_udf(_encoder_loader(root)),
        predict_udf(_model_loader(root), dims, sql_files.query("functions/predict")),
    ]
    return {**UDFS, **{each.name: each for each in stateful}}


def _attach_all(con: Connection, root: Path, tables: Mapping[str, DeltaTable], older: Mapping[str, int]) -> None:
    """Make the tables readable under their names. older: those whose versions were asked for."""
    files = {name: Files(str(root / name), table) for name, table in tables.items()}
    table_files.register(con, files)
    if storage.is_remote(root):
        from lake.object_files import ObjectFiles  # of packages that a lake in a folder does not need

        con.register_filesystem(ObjectFiles(tables))
        with ThreadPoolExecutor(store.AT_ONCE) as threads:
            list(threads.map(lambda each: each.missing, files.values()))  # asked for side by side
    for name, table in tables.items():
        con.unregister(name)
        try:
            _attach(con, name, table, files[name])
        except StorageError:
            raise
        except (duckdb.Error, LakeError) as error:
            if failure := read_failure(error):
                raise failure from error
            raise_if_exhausted(error, f"{root / name}: cannot be read")
            remedy = "vacuuming deletes old versions' files" if name in older else "restore its files"
            raise LakeError(f"{root / name}: version {table.version()} cannot be read: {error}; {remedy}") from error


def _attach(con: duckdb.DuckDBPyConnection, name: str, table: DeltaTable, files: Files) -> None:
    """Make the table readable under its name: the Parquet files of the version, or an empty table."""
    if files.any:
        table_files.attach(con, name, table, _schema(table), files)
    else:
        con.from_arrow(_schema(table).empty_table()).create(name)


def _schema(table: DeltaTable) -> pa.Schema:
    """The columns as DuckDB reads them: numbers in names of folders are BIGINT."""
    schema = pa.schema(table.schema())
    numbers = [name for name in table.metadata().partition_columns if pa.types.is_integer(schema.field(name).type)]
    for name in numbers:
        schema = schema.set(schema.get_field_index(name), pa.field(name, pa.int64()))
    return schema


def _refuse_newer(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    [(written,)] = con.execute("select max(value::integer) from settings where name = 'format'").fetchall()
    if (written or 0) > FORMAT:
        raise LakeError(f"{root}: the lake has format {written}, this histolake reads {FORMAT}; update histolake")


def _describe(con: duckdb.DuckDBPyConnection, tables: Mapping[str, int]) -> None:
    snapshot = pa.table({"table_name": list(tables), "version": pa.array(tables.values(), pa.int64())})
    con.from_arrow(snapshot).create("snapshot")
    rows = [
        {"table_name": table.name, "column_name": c.name, "type": c.type, "about": c.about}
        for table in TABLES.values()
        for c in table.columns
    ]
    con.from_arrow(pa.Table.from_pylist(rows)).create("table_columns")


def _register(con: duckdb.DuckDBPyConnection, root: Path, wanted: Iterable[str] | None, models: int) -> None:
    """Make the macros, register the functions wanted; models: the version of the table of what `predict` takes."""
    asked = None if wanted is None else list(wanted)
    is_asked = asked is None or "predict" in asked
    lengths = store.rows(root, "models", models)["dims"].unique().to_list() if is_asked else []
    for macro in sorted((sql_files.SQL / "macros").glob("*.sql")):
        con.execute(macro.read_text(encoding="utf-8"))
    known = functions(root, lengths[0] if len(lengths) == 1 else None)
    names = list(known) if asked is None else asked
    for name in names:
        if name not in known:
            raise LakeError(f"no function {name!r}; there are {', '.join(sorted(known))}")
        known[name].register(con)
    listing = pa.table(
        {
            "function_name": pa.array(names, pa.string()),
            "signature": pa.array([known[name].signature for name in names], pa.string()),
            "about": pa.array([known[name].about.partition("\n\n")[0] for name in names], pa.string()),
        }
    )
    con.from_arrow(listing).create("functions")


def _create_views(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Make the project's views and the lake's own; without those that call a function which this connection lacks."""
    files = {path.stem: path for path in sql_files.view_files(root)}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    reads = {name: sql_files.tables_named(text) for name, text in texts.items()}
    left_out: set[str] = set()
    for name in sql_files.in_order(reads):
        if reads[name] & left_out:
            left_out.add(name)
            continue
        try:
            con.execute(f'create view "{name}" as {texts[name]}')  # a relation's create_view binds all beneath thrice
        except duckdb.Error as error:
            unknown = re.search(r"Function with name (\w+) does not exist", str(error))
            if not unknown or unknown[1] not in functions(root):
                why = str(error).partition("\n")[0]
                raise LakeError(f"{files[name]}: {why}; correct the view, or take it away") from error
            left_out.add(name)


def _encoder_loader(root: Path) -> Callable[[str], Encoder]:
    def load(encoder_id: str) -> Encoder:
        rows = store.rows(root, "encoders").to_dicts()
        for row in rows:
            if row["encoder_id"] == encoder_id:
                file = encoder_cache.cached(row["sha256"]) or encoder_file(root, row["sha256"])
                encoder = Encoder(EncoderSpec(**row), file)
                providers[encoder_id] = encoder.provider
                return encoder
        known = ", ".join(row["encoder_id"] for row in rows) or "none yet"
        raise EncoderError(f"{root}: no encoder {encoder_id!r} in the lake; it has {known}")

    return load


def encoder_file(root: Path, sha256: str) -> Path:
    """The ONNX file of that hash, from the lake. `Encoder` verifies it."""
    return storage.at_hand(root / "onnx" / sha256) / ENCODER_FILE


def _model_loader(root: Path) -> Callable[[str], Model]:
    def load(model_id: str) -> Model:
        from lake.models import load_model  # with scikit-learn, seconds

        return load_model(root, model_id)

    return load
