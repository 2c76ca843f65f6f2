"""Commits what a stage has computed, several units at once, with the ledger's rows."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake import store
from lake.sql_files import Stage
from lake.store import Entry, Replacement
from lake.units import Outcome, Result, Unit

# Writers to one table get in each other's way: so one commits rarely, and the more rarely the longer it takes.
COMMIT_SECONDS = 5.0  # least time from one commit to the next,
SHARE = 20  # and as a multiple of the seconds that the last one took
COMMIT_UNITS = 64  # most units, and most bytes of rows, that wait for it
COMMIT_BYTES = 256 * 2**20


class Committer:
    """Collects results and commits them, several at once."""

    def __init__(
        self, root: Path, stage: Stage, parameters: Mapping[str, Any], run_id: str, versions: Mapping[str, int]
    ) -> None:
        self._root, self._stage, self._run_id = root, stage, run_id
        self._schema = pa.schema(store.open_table(root, stage.name).schema())
        self._parameters = json.dumps(dict(parameters), sort_keys=True, default=str)
        self._versions = json.dumps(versions, sort_keys=True)
        self._waiting: list[Result] = []
        self._flushed = 0
        self._due = time.monotonic() + COMMIT_SECONDS

    def add(self, result: Result) -> list[Outcome]:
        """Keep a result, and commit what is kept when it is time or there is much; returns what is committed now."""
        self._waiting.append(result)
        held = sum(each.rows.nbytes for each in self._waiting if each.rows is not None)
        if time.monotonic() >= self._due or len(self._waiting) >= COMMIT_UNITS or held >= COMMIT_BYTES:
            return self.flush()
        return []

    def flush(self) -> list[Outcome]:
        """Commit what is kept, and record failures; returns what that was."""
        start = time.monotonic()
        computed = [result for result in self._waiting if result.rows is not None]
        broken = [result for result in self._waiting if result.rows is None]
        if computed:
            rows = [self._fitted(each.rows, each.unit) for each in computed if each.rows is not None]
            replacements = [self._replacement(each.unit) for each in computed]
            entries = [self._entry(each) for each in computed]
            store.replace(self._root, self._stage.name, pa.concat_tables(rows), replacements, entries)
        store.record(self._root, [self._entry(result) for result in broken])
        outcomes, self._waiting = [result.outcome for result in self._waiting], []
        self._flushed += 1
        if self._flushed % store.LEDGER_FILES == 0:  # of a long run others read the ledger meanwhile
            store.tidy_ledger(self._root)
        end = time.monotonic()
        self._due = end + max(COMMIT_SECONDS, SHARE * (end - start))
        return outcomes

    def _fitted(self, rows: pa.Table, unit: Unit) -> pa.Table:
        """The rows with the table's columns and types; the bucket is the unit's."""
        if "bucket" in self._schema.names and "bucket" not in rows.column_names:
            rows = rows.append_column("bucket", pa.array([unit.bucket] * rows.num_rows, pa.int32()))
        return rows.select(self._schema.names).cast(self._schema)

    def _replacement(self, unit: Unit) -> Replacement:
        where: dict[str, store.Value] = {"slide_id": unit.slide_id, **json.loads(unit.identity)}
        if "bucket" in self._schema.names:
            where["bucket"] = unit.bucket
        where = {name: value for name, value in where.items() if name in self._schema.names}
        if not unit.has_parts:
            return Replacement(where)
        wipe = where if "fingerprint" in self._schema.names else None
        return Replacement({**where, "part": unit.part}, wipe, unit.fingerprint)

    def _entry(self, result: Result) -> Entry:
        unit = result.unit
        return Entry(
            run_id=self._run_id,
            stage=self._stage.name,
            slide_id=unit.slide_id,
            identity=unit.identity,
            part=unit.part,
            fingerprint=unit.fingerprint,
            status=result.status,
            rows=result.rows.num_rows if result.rows is not None else 0,
            errors=result.errors,
            error=result.error,
            seconds=result.seconds,
            input_versions=self._versions,
            parameters=self._parameters,
        )
