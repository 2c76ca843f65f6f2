"""Looking after a table: its size and history, merging small files, deleting those that no version needs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

from lake import storage, store
from lake.conflicts import persist

ORPHAN_HOURS = 24  # no writer takes longer from the first byte of a file to its commit


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


def optimize(root: Path, name: str, partition: str | None = None) -> int:
    """Merge the table's small files, or those of one partition; returns how many. Readers and writers may go on."""
    merged, number = store.compact(root, name, partition)
    if merged and name != "runs":
        _record(root, name, number, "optimize")
    return merged


def unneeded(table: DeltaTable, retention_hours: int, keep_versions: Sequence[int] = ()) -> list[str]:
    """Files that no version of the last `retention_hours`, and none of `keep_versions`, needs: paths in its folder.

    From a day on also files that the log does not know, which a writer left that was stopped; younger ones may be of
    a writer that is at work. The log alone does not tell all: its checkpoints forget what was removed a week ago.
    """
    known = table.vacuum(retention_hours, dry_run=True, **_how(retention_hours, keep_versions))
    return known + _unfinished(table, retention_hours)


def _unfinished(table: DeltaTable, retention_hours: int) -> list[str]:
    """Files of which a writer that was stopped had written a part: of these Delta's own vacuum does not know."""
    return storage.unfinished(table.table_uri, retention_hours) if retention_hours >= ORPHAN_HOURS else []


def vacuum(root: Path, name: str, retention_hours: int, keep_versions: Sequence[int] = ()) -> int:
    """Delete the files that are `unneeded`; returns how many."""
    table = store.open_table(root, name)
    if not unneeded(table, retention_hours, keep_versions):
        return 0
    unfinished = _unfinished(table, retention_hours)
    for file in unfinished:
        (root / name / file).unlink(missing_ok=True)
    if name != "runs":  # before: no snapshot may name a version whose files are going, wherever this is stopped
        _record(root, name, table.version(), "vacuum")
    how = _how(retention_hours, keep_versions)

    def attempt() -> int:
        opened = store.open_table(root, name)
        return len(opened.vacuum(retention_hours, dry_run=False, post_commithook_properties=store.HOOKS, **how))

    return persist(root / name, attempt) + len(unfinished)


def _how(retention_hours: int, keep_versions: Sequence[int]) -> dict[str, Any]:
    is_full = retention_hours >= ORPHAN_HOURS
    return {"enforce_retention_duration": False, "full": is_full, "keep_versions": [*keep_versions] or None}


def _record(root: Path, name: str, number: int, operation: str) -> None:
    """Let snapshots see the new version: files of older ones will be vacuumed."""
    done = store.entry(name, run_id=store.new_run_id(), parameters={"operation": operation})
    store.record(root, [dataclasses.replace(done, table_version=number)])
