"""The chain of the table audit: every row has the hash of the row before it; many processes add to one chain."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.fs import DeltaStorageHandler

from lake import storage, store
from lake.conflicts import persist
from lake.storage_faults import reason
from lake.tables import AUDIT
from udfs.errors import LakeError, MachineError

HASHED = tuple(column.name for column in AUDIT.columns if column.name not in ("previous_hash", "hash"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_ITS_OWN_VERSION = CommitProperties(max_commit_retries=0)  # so of two writers on one tip one is refused

Row = dict[str, Any]


@dataclass(frozen=True)
class Link:
    """A row's place in the chain, and its hash."""

    sequence: int
    hash: str


def anchor(root: Path) -> str:
    """What the first row follows from: the hash of the lake's identity, so that no other lake's chain fits."""
    return _digest(["histolake audit", str(store.open_table(root, "runs").metadata().id)])


def linked(rows: Sequence[Row], tip: Link) -> list[Row]:
    """The rows as they follow from the tip, with sequence, previous_hash and hash."""
    chained: list[Row] = []
    for number, row in enumerate(rows, start=tip.sequence + 1):
        previous = chained[-1]["hash"] if chained else tip.hash
        placed = {**row, "sequence": number, "previous_hash": previous}
        chained.append({**placed, "hash": _digest([previous, *(_told(placed[name]) for name in HASHED)])})
    return chained


def _told(value: Any) -> str | None:
    """A column as it is hashed: times in microseconds since 1970 UTC, numbers in decimal digits."""
    if isinstance(value, datetime):
        return str((value - EPOCH) // timedelta(microseconds=1))
    return None if value is None else str(value)


def _digest(fields: Sequence[str | None]) -> str:
    """SHA-256 of the fields one after another, each as "bytes:text," and NULL as "-"; sql/audit says the same."""
    told = (b"-" if each is None else b"%d:%s," % (len(each.encode()), each.encode()) for each in fields)
    return hashlib.sha256(b"".join(told)).hexdigest()


@dataclass
class _Waiting:
    """Rows that a thread waits for, and what became of them."""

    rows: Sequence[Row]
    is_done: bool = False
    error: LakeError | MachineError | None = field(default=None)


class Chain:
    """The chain of one lake in this process: threads that come while a commit is made share the next one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._turn = threading.Condition()
        self._is_committing = False
        self._waiting: list[_Waiting] = []
        self._known: tuple[str, Link] | None = None  # a file that was the newest one, and its last row

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows to the chain; returns when they are committed. Raises LakeError when they cannot be."""
        own = _Waiting(rows)
        with self._turn:
            self._waiting.append(own)
            while self._is_committing and not own.is_done:
                self._turn.wait()
            batch = []
            if not own.is_done:  # else another thread took these rows along
                batch, self._waiting, self._is_committing = self._waiting, [], True
        if batch:
            self._commit_all(batch)
        if own.error is not None:
            raise LakeError(str(own.error)) from own.error

    def _commit_all(self, batch: Sequence[_Waiting]) -> None:
        outcome: LakeError | MachineError | None = LakeError(f"{self._root / AUDIT.name}: the commit was broken off")
        try:
            self._commit([row for each in batch for row in each.rows])
            outcome = None
        except (LakeError, MachineError) as error:
            outcome = error
        finally:
            with self._turn:
                for each in batch:
                    each.error, each.is_done = outcome, True
                self._is_committing = False
                self._turn.notify_all()

    def _commit(self, rows: Sequence[Row]) -> None:
        tried: list[Link] = []

        def attempt() -> DeltaTable:
            table = store.open_table(self._root, AUDIT.name)
            newest = self._newest(table)
            if tried and _is_there(table, tried[-1]):
                return table  # it had landed, and the answer was lost
            chained = linked(rows, newest)
            tried.append(_link(chained[-1]))
            data = pa.Table.from_pylist(chained, schema=AUDIT.schema)
            write_deltalake(
                table,
                data,
                mode="append",
                commit_properties=AT_ITS_OWN_VERSION,
                post_commithook_properties=store.HOOKS,
            )
            own = _files(table).filter(pl.col("max.sequence") == tried[-1].sequence)
            self._known = (own["path"][-1], tried[-1])
            return table

        table = persist(self._root / AUDIT.name, attempt)
        if _files(table).height > store.LEDGER_FILES:
            with suppress(LakeError, MachineError):  # what was to be recorded is
                store.compact(self._root, AUDIT.name)

    def _newest(self, table: DeltaTable) -> Link:
        """The last row of the chain: read from its file, unless this process wrote it."""
        files = _files(table)
        if files.is_empty():
            return Link(0, anchor(self._root))
        if self._known is None or self._known[0] != files["path"][-1]:
            found = _read(table, files.tail(1)).sort("sequence").row(-1, named=True)
            self._known = (files["path"][-1], _link(found))
        return self._known[1]


def _link(row: Mapping[str, Any]) -> Link:
    return Link(row["sequence"], row["hash"])


def _files(table: DeltaTable) -> pl.DataFrame:
    """The table's files, path, size and the ends of their range of the chain, the newest last: from Delta's log."""
    files = pl.DataFrame(table.get_add_actions(flatten=True))
    wanted = ("path", "size_bytes", "min.sequence", "max.sequence")
    if files.is_empty():
        return pl.DataFrame(schema=dict.fromkeys(wanted, pl.Int64))
    if not set(wanted) <= set(files.columns) or files["max.sequence"].has_nulls():
        raise LakeError(f"{table.table_uri}: its log does not tell what is in its files; `histolake audit verify`")
    return files.select(wanted).sort("max.sequence")


def _is_there(table: DeltaTable, link: Link) -> bool:
    """Whether the chain has that row."""
    holding = _files(table).filter(pl.col("min.sequence") <= link.sequence, pl.col("max.sequence") >= link.sequence)
    return (
        not holding.is_empty() and not _read(table, holding).filter(sequence=link.sequence, hash=link.hash).is_empty()
    )


def _read(table: DeltaTable, files: pl.DataFrame) -> pl.DataFrame:
    """Sequence and hash of the rows in these files."""
    sizes = dict(files.select("path", "size_bytes").rows())
    handler = DeltaStorageHandler(table.table_uri, storage.options(table.table_uri), sizes)
    try:
        parts = [pq.read_table(handler.open_input_file(path), columns=["sequence", "hash"]) for path in sizes]
    except (OSError, pa.ArrowException) as error:
        raise LakeError(f"{table.table_uri}: cannot be read: {reason(error)}") from error
    return pl.DataFrame(pa.concat_tables(parts))


@lru_cache(maxsize=64)
def chain(root: Path) -> Chain:
    """The lake's chain in this process."""
    return Chain(root)
