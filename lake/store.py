"""The lake in Delta: open at a version, replace units of work, and keep the ledger of them."""

from __future__ import annotations

import bisect
import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake
from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

from lake import storage
from lake.conflicts import persist
from lake.delta_table import FolderTable
from lake.storage_faults import fault, plain, reason
from lake.tables import APART, RUNS, TABLES
from udfs.errors import LakeError, StorageError
from udfs.exhaustion import raise_if_exhausted

METADATA = "histolake"  # key of our entry in a commit's metadata: the ledger rows of that commit
CODE_VERSION = version("histolake")
LEDGER_FILES = 256  # more of them, one a commit, make reading the ledger slow
FILE_BYTES = 32 * 2**20  # of a file that small ones are merged into; a unit's features are as large, and left alone
AT_ONCE = 16  # tables that are made or opened: in object storage each takes several requests
REPAIR_DEPTH = 50  # latest commits of a table that are searched for ledger rows that a crash lost

# old versions stay readable until they are vacuumed; and looking for those of 30 days ago took a third of a commit
HOOKS = PostCommitHookProperties(cleanup_expired_logs=False)

STEP = timedelta(
    milliseconds=1
)  # from one entry to the next where the clock was set back: as fine as Delta's statistics
_newest: dict[str, datetime] = {}  # by lake, the time of the newest ledger entry that this process knows of

Value = str | int | float | None


@dataclass(frozen=True)
class Entry:
    """A row of the ledger, see tables.RUNS; table_version is filled in by the commit."""

    run_id: str
    stage: str
    slide_id: str | None
    identity: str
    part: int | None
    fingerprint: str | None
    status: str
    rows: int
    errors: int
    error: str | None
    seconds: float
    input_versions: str
    parameters: str
    finished_at: str = ""
    table_version: int | None = None
    code_version: str = CODE_VERSION


def entry(
    stage: str,
    *,
    run_id: str,
    rows: int = 0,
    identity: Mapping[str, Value] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Entry:
    """A ledger row for a commit that is no slide's unit of work."""
    key, text = (json.dumps(dict(each or {}), sort_keys=True) for each in (identity, parameters))
    return Entry(run_id, stage, None, key, None, None, "ok", rows, 0, None, 0.0, "{}", text)


def new_run_id() -> str:
    """An identifier for one call of a command, sortable by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True)
class Replacement:
    """What a commit replaces: rows equal to `where`, and rows of the same `wipe` of another fingerprint."""

    where: Mapping[str, Value]
    wipe: Mapping[str, Value] | None = None
    fingerprint: str | None = None

    def predicate(self) -> str:
        """The replacement as Delta's SQL."""
        exact = _equal(self.where)
        if self.wipe is None:
            return f"({exact})"
        return f"({exact}) or ({_equal(self.wipe)} and fingerprint <> {_literal(self.fingerprint)})"


def _equal(where: Mapping[str, Value]) -> str:
    return " and ".join(f"{column} = {_literal(value)}" for column, value in where.items())


def _literal(value: Value) -> str:
    """`value` as a literal of Delta's predicates; the one place where values become SQL text."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    return "'" + value.replace("'", "''") + "'"


# -- the lake as a whole


def is_lake(root: Path) -> bool:
    """Whether a lake was made at `root`."""
    return "runs" in storage.tables(root)


def open_table(root: Path, name: str, at: int | None = None) -> DeltaTable:
    """The table at its newest version, or as it was at version `at`."""
    try:
        opened = DeltaTable if storage.is_remote(root) else FolderTable
        return opened(str(root / name), version=at, storage_options=storage.options(root))
    except TableNotFoundError:
        raise LakeError(f"{root}: no table {name!r}; is this a lake? `histolake ingest` makes one") from None
    except DeltaProtocolError as error:
        raise LakeError(f"{root / name}: written by a newer Delta Lake ({error}); update histolake") from None
    except (DeltaError, OSError) as error:
        if why := fault(error):
            raise StorageError(f"{root / name}: {why}") from error
        raise_if_exhausted(error, f"{root / name}: cannot be opened")
        wanted = "" if at is None else f" at version {at}"
        raise LakeError(f"{root / name}{wanted}: cannot be opened: {plain(error)}") from error


def newest_commit(root: Path, name: str) -> tuple[str, int]:
    """The file of the table's newest commit and when it was written, ns: found without opening the table.

    Another after every commit, and when the lake is made anew at the same place.
    """
    try:
        return storage.newest_commit(root / name / "_delta_log")
    except (OSError, ValueError):
        raise LakeError(f"{root}: no table {name!r}; is this a lake? `histolake ingest` makes one") from None


def snapshot(root: Path, at: Mapping[str, int] | None = None) -> dict[str, DeltaTable]:
    """All tables at one consistent set of versions: those that the ledger records.

    The ledger is read first and is written last, so what it names is there, and so is all that
    it was made from. `at` overrides the version of single tables.
    """
    wanted = dict(at or {})
    if "runs" in wanted:
        _refuse_future(root, "runs", wanted["runs"])
    runs = open_table(root, "runs", wanted.get("runs"))
    files = pl.DataFrame(runs.get_add_actions(flatten=True))
    recorded = _recorded_versions(files)
    _learn(root, files)
    unknown = set(wanted) - set(recorded) - set(TABLES)
    if unknown:
        raise LakeError(
            f"{root}: no table {sorted(unknown)[0]!r}; tables are {', '.join(sorted({*TABLES, *recorded}))}"
        )
    for name, number in wanted.items():
        _refuse_future(root, name, number)
    versions = {**dict.fromkeys(TABLES, 0), **recorded, **wanted}
    del versions["runs"]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        opened = threads.map(lambda name: open_table(root, name, versions[name]), versions)
        return {**dict(zip(versions, opened, strict=True)), "runs": runs}


def names(root: Path) -> list[str]:
    """All tables of the lake: those of a snapshot, and those beside it."""
    return sorted({*snapshot(root), *(APART.keys() & storage.tables(root))})


def _refuse_future(root: Path, name: str, number: int) -> None:
    """Raise LakeError for a version that is not there yet: deltalake looks for every one in between, for hours."""
    newest = int(Path(newest_commit(root, name)[0]).stem)
    if number > newest and number > (newest := open_table(root, name).version()):  # where commits are seen late
        raise LakeError(f"{root / name} at version {number}: there is none yet; the newest is {newest}")


def _recorded_versions(files: pl.DataFrame) -> dict[str, int]:
    """The newest version of every table that the ledger names, by the statistics of its files alone."""
    if "max.table_version" not in files.columns:
        return {}
    newest = files.group_by("partition.stage").agg(pl.col("max.table_version").max()).drop_nulls()
    return dict(newest.rows())


def _ledger_files(root: Path, at: int | None = None) -> pl.DataFrame:
    """The ledger's files, and what Delta's log tells of each."""
    return pl.DataFrame(open_table(root, "runs", at).get_add_actions(flatten=True))


def moment(root: Path, versions: Mapping[str, int]) -> dict[str, int]:
    """The versions, and that of the ledger just before one of these tables changed again.

    What views say depends on the ledger, too: `snapshot` at a moment is the lake as it was then. A version of the
    ledger that is given stays.
    """
    if "runs" in versions:
        return dict(versions)
    newest = open_table(root, "runs").version()

    def until(name: str, number: int) -> int:
        return bisect.bisect_right(
            range(newest + 1), number, key=lambda at: _recorded_versions(_ledger_files(root, at)).get(name, 0)
        )

    return {**versions, "runs": min(until(name, number) for name, number in versions.items()) - 1}


def rows(root: Path, name: str, at: int | None = None) -> pl.DataFrame:
    """All rows of a small table, at its newest version or as it was at version `at`."""
    table = open_table(root, name, at)
    try:
        return storage.scan(table).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        if why := fault(error):
            raise StorageError(f"{root / name}: {why}") from error
        raise_if_exhausted(error, f"{root / name}: cannot be read")
        remedy = "restore its files" if at is None else "vacuuming deletes old versions' files"
        raise LakeError(f"{root / name}: version {table.version()} cannot be read: {plain(error)}; {remedy}") from error


def setting(root: Path, name: str) -> str | None:
    """What the lake keeps under that name in the table settings; None without it."""
    found = rows(root, "settings").filter(pl.col("name") == name)["value"].to_list()
    return found[0] if found else None


# -- writing


def replace(
    root: Path, name: str, rows: pa.Table, replacements: Sequence[Replacement], entries: Sequence[Entry]
) -> None:
    """Commit `rows` in the place of all that `replacements` name, then record `entries` in the ledger.

    One atomic commit: after a crash the rows are there with their ledger entries in the commit's
    metadata (see `repair`), or nothing is. Repeated beside other writers and compactions. Without
    rows the replaced ones are deleted; if there are none either, only the ledger is written. Without
    replacements the rows are added.
    """
    stamped = _stamped(root, entries)
    properties = CommitProperties(
        custom_metadata={METADATA: json.dumps([asdict(one) for one in stamped])}, max_commit_retries=100
    )
    how: dict[str, Any] = {"commit_properties": properties, "post_commithook_properties": HOOKS}
    predicate = " or ".join(replacement.predicate() for replacement in replacements)

    def attempt() -> int | None:
        table = open_table(root, name)
        before = table.version()
        if not replacements:
            write_deltalake(table, rows, mode="append", **how)
        elif rows.num_rows:
            write_deltalake(table, rows, mode="overwrite", predicate=predicate, **how)
        else:
            table.delete(predicate, **how)
        return table.version() if table.version() != before else None

    committed = persist(root / name, attempt)
    record(root, [dataclasses.replace(one, table_version=committed) for one in stamped])


def put(
    root: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    run_id: str,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Insert rows, each in the place of the row with its key. The ledger's identity of a single row is its key.

    parameters: what else the ledger shall tell of the commit.
    """
    table = TABLES[name]
    frame = pa.Table.from_pylist([dict(row) for row in rows], schema=table.schema)
    keys = [{column: row[column] for column in table.key} for row in rows]
    identity = keys[0] if len(keys) == 1 else None
    done = entry(name, run_id=run_id, rows=len(rows), identity=identity, parameters=parameters)
    replace(root, name, frame, [Replacement(key) for key in keys], [done])


def append(root: Path, name: str, rows: Sequence[Mapping[str, Any]], run_id: str) -> None:
    """Add rows beside those that there are, in one commit that the ledger records."""
    if rows:
        frame = pa.Table.from_pylist([dict(row) for row in rows], schema=TABLES[name].schema)
        replace(root, name, frame, [], [entry(name, run_id=run_id, rows=len(rows))])


def record(root: Path, entries: Sequence[Entry]) -> None:
    """Write ledger rows. Those of a commit take the place of the same commit's, so twice is once.

    Not of all of its version: beside other writers a compaction may tell a later version than that of its own commit.
    """
    by_commit: dict[tuple[str, int | None, str], list[Entry]] = {}
    for one in _stamped(root, entries):
        by_commit.setdefault((one.stage, one.table_version, one.run_id), []).append(one)
    for (stage, number, run_id), group in by_commit.items():
        rows = _ledger_rows(group)
        same = {"stage": stage, "table_version": number, "run_id": run_id}
        predicate = None if number is None else _equal(same)

        def attempt(rows: pa.Table = rows, predicate: str | None = predicate) -> None:
            write_deltalake(
                open_table(root, "runs"),
                rows,
                mode="append" if predicate is None else "overwrite",  # type: ignore[call-overload]
                predicate=predicate,
                commit_properties=CommitProperties(max_commit_retries=100),
                post_commithook_properties=HOOKS,
            )

        persist(root / "runs", attempt)


def _ledger_rows(entries: Iterable[Entry]) -> pa.Table:
    rows = [{**asdict(one), "finished_at": datetime.fromisoformat(one.finished_at)} for one in entries]
    return pa.Table.from_pylist(rows, schema=RUNS.schema)


def _stamped(root: Path, entries: Sequence[Entry]) -> list[Entry]:
    if all(one.finished_at for one in entries):
        return list(entries)
    now = time_after(root, datetime.now(UTC)).isoformat()
    return [one if one.finished_at else dataclasses.replace(one, finished_at=now) for one in entries]


def time_after(root: Path, now: datetime) -> datetime:
    """The time, or what is later than every ledger entry that this process knows of, where the clock was set back.

    What is newest decides what is done. A process knows the entries that were there when it last opened the lake, and
    its own.
    """
    if str(root) not in _newest:
        _learn(root, _ledger_files(root))
    _newest[str(root)] = max(now, _newest[str(root)] + STEP)
    return _newest[str(root)]


def _learn(root: Path, files: pl.DataFrame) -> None:
    """Take note of the ledger's newest entry, by the statistics of its files."""
    told: Any = files["max.finished_at"].max() if "max.finished_at" in files.columns else None
    never = datetime.min.replace(tzinfo=UTC)
    _newest[str(root)] = max(_newest.get(str(root), never), told or never)


def repair(root: Path) -> int:
    """Write the ledger rows that a crash between commit and ledger lost; returns how many.

    Each commit carries them in its metadata. Commits older than the last REPAIR_DEPTH are left: their
    units are then done again, with the same result.
    """
    lost: list[Entry] = []
    runs = open_table(root, "runs")
    named = pl.DataFrame(runs.get_add_actions(flatten=True))
    stages = set(named["partition.stage"]) if "partition.stage" in named.columns else set()
    for name in sorted(set(TABLES) - {"runs"} | stages):
        table = open_table(root, name)
        recent = range(max(1, table.version() - REPAIR_DEPTH + 1), table.version() + 1)
        if not recent:
            continue
        of_table = (pl.col("stage") == name) & (pl.col("table_version") >= recent.start)
        known = set(storage.scan(runs).filter(of_table).select("table_version").collect()["table_version"])
        if known.issuperset(recent):
            continue
        for commit in commits(root, name, REPAIR_DEPTH):
            if METADATA in commit and commit["version"] not in known:
                for one in json.loads(commit[METADATA]):
                    lost.append(Entry(**{**one, "table_version": commit["version"]}))
    record(root, lost)
    return len(lost)


def commits(root: Path, name: str, limit: int | None) -> list[dict[str, Any]]:
    """The table's newest commits as Delta tells of them, at most `limit`."""
    try:
        return open_table(root, name).history(limit)
    except (DeltaError, OSError) as error:
        raise LakeError(f"{root / name}: its history cannot be read: {reason(error)}") from error


def compact(root: Path, name: str, partition: str | None = None) -> tuple[int, int]:
    """Merge small files: how many, and the table's version thereafter. Readers and writers may go on.

    partition: the only one whose files are merged; by default those of all. Neighbours are merged, so that a file
    goes on holding slides next to each other.
    """
    [column, *_] = [*open_table(root, name).metadata().partition_columns, None]
    only = None if partition is None or column is None else [(column, "=", partition)]

    def attempt() -> tuple[int, int]:
        table = open_table(root, name)
        merged = table.optimize.compact(only, target_size=FILE_BYTES, post_commithook_properties=HOOKS)
        return int(merged["numFilesRemoved"]), table.version()

    return persist(root / name, attempt)


def tidy_ledger(root: Path) -> None:
    """Merge the ledger's files where there are many; to be called at the end of work that wrote to it."""
    if len(open_table(root, "runs").file_uris()) > LEDGER_FILES:
        compact(root, "runs")
