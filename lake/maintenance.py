"""What a lake needs from time to time: small files merged, those that no version needs deleted, checkpoints."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable

from lake import storage, store, upkeep
from lake.conflicts import persist
from lake.tables import AUDIT

KEEP_HOURS = 168


@dataclass(frozen=True)
class Done:
    """What became of a table. bytes_freed: of the deleted files. kept: its older versions that models name."""

    table: str
    files: int
    files_merged: int
    files_deleted: int
    bytes_freed: int
    has_checkpoint: bool
    kept: tuple[int, ...]

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.files_merged or self.files_deleted or self.has_checkpoint)


def maintain(
    root: Path,
    tables: list[str] | None = None,
    *,
    keep_hours: int = KEEP_HOURS,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Done]:
    """Look after the tables, all by default, one after another; readers and writers may go on.

    Versions of the last `keep_hours` stay readable, and so does every version that a model was trained from. Stopped
    at any moment, the lake is as good as before, and the next call goes on from there. tell: what is being done.
    Raises LakeError for a table that is not there, or cannot be written.
    """
    promised = promised_versions(root)
    for name in _in_order(root, tables):
        kept = promised.get(name, ())
        merged = 0
        for partition in _partitions(store.open_table(root, name)):
            tell(f"{name}: merging files{f' of {partition}' if partition else ''}")
            merged += upkeep.optimize(root, name, partition)
        tell(f"{name}: looking for files that no version needs")
        doomed = upkeep.unneeded(store.open_table(root, name), keep_hours, kept)
        freed = _bytes(root / name, doomed)
        deleted = upkeep.vacuum(root, name, keep_hours, kept) if doomed else 0
        table = store.open_table(root, name)
        is_behind = _is_behind(root / name, table)
        if is_behind:
            tell(f"{name}: writing a checkpoint")
            persist(root / name, table.create_checkpoint)
        yield Done(name, len(table.file_uris()), merged, deleted, freed, is_behind, kept)


def plan(root: Path, tables: list[str] | None = None, *, keep_hours: int = KEEP_HOURS) -> Iterator[Done]:
    """What `maintain` would do now, without doing it; files_merged: at most so many."""
    promised = promised_versions(root)
    for name in _in_order(root, tables):
        table, kept = store.open_table(root, name), promised.get(name, ())
        doomed = upkeep.unneeded(table, keep_hours, kept)
        merged, freed = _mergeable(table), _bytes(root / name, doomed)
        is_behind = merged > 0 or len(doomed) > 0 or _is_behind(root / name, table)
        yield Done(name, len(table.file_uris()), merged, len(doomed), freed, is_behind, kept)


def promised_versions(root: Path) -> dict[str, tuple[int, ...]]:
    """By table, the versions that models were trained from: `histolake reproduce` opens them."""
    found: dict[str, set[int]] = defaultdict(set)
    for text in store.rows(root, "models")["table_versions"].drop_nulls().unique():
        if versions := json.loads(text):
            for name, number in store.moment(root, versions).items():
                found[name].add(number)
    return {name: tuple(sorted(numbers)) for name, numbers in found.items()}


def _in_order(root: Path, tables: list[str] | None) -> list[str]:
    """The ledger and the audit table last: what is done to the other tables is written there."""
    return sorted(tables or store.names(root), key=lambda name: (name == AUDIT.name, name == "runs", name))


def _partitions(table: DeltaTable) -> Sequence[str | None]:
    """Values of the column that partitions the table: each is merged in a commit of its own. [None] without one."""
    [column, *_] = [*table.metadata().partition_columns, None]
    return [None] if column is None else sorted(each[column] for each in table.partitions())


def _mergeable(table: DeltaTable) -> int:
    """Files that fit into one together with the smallest of their partition, where that is another."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    if files.is_empty():
        return 0
    columns = [f"partition.{name}" for name in table.metadata().partition_columns]
    folder = pl.concat_str(columns) if columns else pl.lit("")
    fits = files.filter(pl.col("size_bytes") + pl.col("size_bytes").min().over(folder) <= store.FILE_BYTES)
    counts = fits.group_by(folder.alias("folder")).len().filter(pl.col("len") > 1)
    return int(counts["len"].sum())


def _bytes(folder: Path, files: list[str]) -> int:
    """What the files take that are still there."""
    return storage.size(folder, files)


def _is_behind(folder: Path, table: DeltaTable) -> bool:
    """Whether there are commits later than the table's newest checkpoint."""
    pointer = folder / "_delta_log" / "_last_checkpoint"
    newest = json.loads(pointer.read_text(encoding="utf-8"))["version"] if pointer.exists() else 0
    return bool(table.version() > newest)
