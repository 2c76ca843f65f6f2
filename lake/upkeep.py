"""Looking after a table: its size and history, merging small files, deleting those that no version needs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

from lake import store
from lake.conflicts import persist


@dataclass(frozen=True)
class Size:
    """How large a table is. rows: None where a foreign writer left the count out. bytes: of the Parquet files."""

    rows: int | None
    bytes: int
    files: int


def size(table: DeltaTable) -> Size:
    """The size of the table's version, from the log's statistics of its files: none of them is opened."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    if files.is_empty():
        return Size(0, 0, 0)
    rows = None if files["num_records"].null_count() else int(files["num_records"].sum())
    return Size(rows, int(files["size_bytes"].sum()), files.height)


def history(root: Path, name: str, limit: int | None = None) -> list[dict[str, Any]]:
    """The table's commits, newest first and at most `limit`: version, UTC time, operation, rows written."""
    commits = []
    for commit in store.commits(root, name, limit):
        metrics = commit.get("operationMetrics") or {}
        commits.append(
            {
                "version": commit["version"],
                "at": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
                "operation": commit["operation"],
                "rows": metrics.get("num_added_rows"),
                "units": len(json.loads(commit.get(store.METADATA, "[]"))),
            }
        )
    return commits


def optimize(root: Path, name: str) -> int:
    """Merge the table's small files; returns how many were merged. Readers and writers may go on."""
    merged, number = store.compact(root, name)
    if merged and name != "runs":
        _record(root, name, number, "optimize")
    return merged


def vacuum(root: Path, name: str, retention_hours: int) -> int:
    """Delete files that no version of the last `retention_hours` needs; returns how many."""

    def attempt() -> tuple[int, int]:
        table = store.open_table(root, name)
        deleted = table.vacuum(
            retention_hours, dry_run=False, enforce_retention_duration=False, post_commithook_properties=store.HOOKS
        )
        return len(deleted), table.version()

    deleted, number = persist(root / name, attempt)
    if deleted and name != "runs":
        _record(root, name, number, "vacuum")
    return deleted


def _record(root: Path, name: str, number: int, operation: str) -> None:
    """Let snapshots see the new version: files of older ones will be vacuumed."""
    done = store.entry(name, run_id=store.new_run_id(), parameters={"operation": operation})
    store.record(root, [dataclasses.replace(done, table_version=number)])
