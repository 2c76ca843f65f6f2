"""Makes a lake, or what an older one lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import DeltaError

from lake import storage, store
from lake.conflicts import persist
from lake.sql_files import query
from lake.storage_faults import reason
from lake.tables import APART, AUDIT, FORMAT, GROWN, TABLES, Table
from udfs.errors import LakeError
from udfs.exhaustion import raise_if_exhausted


def create(root: Path, seed: int = 0) -> None:
    """Make the lake at `root`, or what it lacks. Safe when several processes do it at once."""
    made = storage.tables(root)
    if "runs" not in made and not storage.is_free(root, {*TABLES, *APART}):
        raise LakeError(f"{root}: the folder holds other things and no lake; name an empty or a new folder")
    with ThreadPoolExecutor(store.AT_ONCE) as threads:
        list(threads.map(lambda name: create_table(root, TABLES[name]), [name for name in TABLES if name not in made]))
    written = int(store.setting(root, "format") or 0)
    if not APART.keys() <= made:
        _create_apart(root, written)
    if written >= FORMAT:
        return
    run_id = store.new_run_id()
    for name, usual in GROWN.items():
        _add_columns(root, TABLES[name], usual, run_id)
    if written:
        from lake.model_files import adopt  # an older lake's, by what reads models

        adopt(root, run_id)
    store.put(root, "annotation_groups", default_groups(), run_id)
    if store.setting(root, "seed") is None:
        store.put(root, "settings", [{"name": "seed", "value": str(seed)}], run_id)
    # written last: a lake that was not finished is finished the next time
    store.put(root, "settings", [{"name": "format", "value": str(FORMAT)}], run_id)


def _create_apart(root: Path, written: int) -> None:
    """Make the tables that no ledger tells of. In a lake of this format the audit table was there, and is gone."""
    if written >= FORMAT and AUDIT.name not in storage.tables(root):
        raise LakeError(f"{root}: the table audit is gone; restore it from a backup: nothing can make it again")
    for table in APART.values():
        create_table(root, table)


def is_complete(root: Path) -> bool:
    """Whether the lake has all tables of this histolake; `create` makes those that an older lake lacks."""
    return {*TABLES, *APART} <= storage.tables(root)


def default_groups() -> list[dict[str, Any]]:
    """What annotation groups mean in a new lake: rows of annotation_groups."""
    return duckdb.sql(query("defaults/annotation_groups")).pl().to_dicts()


def _add_columns(root: Path, table: Table, usual: Mapping[str, Any], run_id: str) -> None:
    """Give a small table of an older lake its new columns, with what is `usual`, else NULL, in the rows it has."""
    held = store.rows(root, table.name)
    missing = [field for field in table.schema if field.name not in held.columns]
    if not missing:
        return
    filled = held.with_columns(pl.lit(usual.get(field.name)).alias(field.name) for field in missing)
    data = filled.select(table.schema.names).to_arrow().cast(table.schema)

    def attempt() -> int:
        old = store.open_table(root, table.name)
        write_deltalake(old, data, mode="overwrite", schema_mode="overwrite", post_commithook_properties=store.HOOKS)
        return store.open_table(root, table.name).version()

    number = persist(root / table.name, attempt)
    added = store.entry(table.name, run_id=run_id, parameters={"operation": "add columns"})
    store.record(root, [dataclasses.replace(added, table_version=number)])


def create_table(root: Path, table: Table) -> None:
    """Make an empty table; nothing happens where it exists."""
    storage.prove(root)
    try:
        DeltaTable.create(
            str(root / table.name),
            Schema.from_arrow(table.schema),
            mode="ignore",
            partition_by=[table.partition] if table.partition else None,
            name=table.name,
            description=table.about,
            configuration={**storage.configuration(root), **table.properties},
            storage_options=storage.options(root),
        )
    except (DeltaError, OSError) as error:
        if DeltaTable.is_deltatable(str(root / table.name), storage.options(root)):
            return  # another process was quicker
        raise_if_exhausted(error, f"{root / table.name}: the table cannot be made")
        raise LakeError(f"{root / table.name}: the table cannot be made: {reason(error)}") from error
