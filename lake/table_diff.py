"""What changed from one version of a table to another: row by row in small tables, by units of work in large ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lake import ledger, store
from lake.tables import TABLES
from udfs.errors import LakeError

LONGEST = 80  # letters of a value


@dataclass(frozen=True)
class Changes:
    """What two versions of a table differ in.

    is_by_unit: whether rows are units of work, see sql/app/unit_changes.sql; else they have the table's key, change
    ('added', 'removed' or 'changed') and what: the columns that differ, before and after. is_by_unit tables are not
    read at all.
    """

    is_by_unit: bool
    rows: pl.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """How many rows of each kind of change there are."""
        return dict(self.rows.group_by("change").len().sort("change").iter_rows())


def changes(root: Path, name: str, from_version: int, to_version: int) -> Changes:
    """The differences from one version of a table to a later one.

    Raises LakeError for a table or versions that are not there, or no longer.
    """
    versions = {table: each.version() for table, each in store.snapshot(root).items()}
    if name not in versions:
        raise LakeError(f"{root}: no table {name!r}; tables are {', '.join(sorted(versions))}")
    if not 0 <= from_version < to_version <= versions[name]:
        raise LakeError(
            f"{root}: {name} has no versions {from_version} and, later, {to_version}: they go from 0 to "
            f"{versions[name]}; `histolake history {name}` lists them"
        )
    if name not in TABLES or TABLES[name].partition:
        asked = {"table_name": name, "from_version": from_version, "to_version": to_version}
        return Changes(True, ledger.ask(ledger.entries(root), "app/unit_changes", asked))
    before, after = (store.rows(root, name, number) for number in (from_version, to_version))
    return Changes(False, row_changes(before, after, TABLES[name].key))


def row_changes(before: pl.DataFrame, after: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    """The rows that differ between two frames: change, the key's columns, and what differs in words.

    A column that one frame lacks counts as NULL there.
    """
    old, new = ({tuple(row[name] for name in key): row for row in frame.to_dicts()} for frame in (before, after))
    columns = [name for name in dict.fromkeys([*after.columns, *before.columns]) if name not in key]
    found = []
    for name in {**new, **old}:
        was, now = old.get(name), new.get(name)
        differing = [each for each in columns if (was or {}).get(each) != (now or {}).get(each)]
        if was is None or now is None:
            held = was or now or {}
            what = [f"{each}: {_short(held[each])}" for each in differing]
            found.append((*name, "added" if was is None else "removed", "; ".join(what)))
        elif differing:
            what = [_told(each, was.get(each), now.get(each)) for each in differing]
            found.append((*name, "changed", "; ".join(what)))
    schema: dict[str, Any] = {**{each: after.schema[each] for each in key}, "change": pl.String, "what": pl.String}
    return pl.DataFrame(found, schema, orient="row").select("change", *key, "what").sort("change", *key)


def _told(column: str, was: Any, now: Any) -> str:
    """How a value changed; of JSON objects only the entries that did."""
    old, new = _object(was), _object(now)
    if old is None or new is None:
        return f"{column}: {_short(was)} → {_short(now)}"
    differing = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return "; ".join(f"{column}.{name}: {_short(old.get(name))} → {_short(new.get(name))}" for name in differing)


def _object(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        return dict(json.loads(value))
    except ValueError:
        return None


def _short(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
