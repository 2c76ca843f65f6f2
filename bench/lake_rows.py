"""Rows as the stages write them, ledger included, for lakes that no slide was read for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from lake import store
from lake.sql_files import SQL
from lake.store import Entry
from lake.tables import TABLES

PART = 8192  # patches of a unit of work


@dataclass(frozen=True)
class Slide:
    """A slide of the lake, and how many patches it has."""

    slide_id: str
    path: Path
    patches: int
    bucket: int

    @property
    def fingerprint(self) -> str:
        """Of its row in slides."""
        return f"fingerprint-{self.slide_id}"

    @property
    def parts(self) -> range:
        """Its units of work."""
        return range(-(-self.patches // PART))

    def rows(self, part: int) -> int:
        """Patches of one of its units."""
        return min(PART, self.patches - part * PART)


def nowhere(slide_id: str) -> Path:
    """Where the file of a slide would be that nobody reads."""
    return Path("/nowhere") / f"{slide_id}.tif"


def slides_of(patches: Mapping[str, int], path: Callable[[str], Path] = nowhere) -> list[Slide]:
    """The slides of these names, with so many patches each, in the buckets that they belong to; `path`: their files."""
    with duckdb.connect() as con:
        con.execute((SQL / "macros/bucket_of.sql").read_text(encoding="utf-8"))
        [(buckets,)] = con.execute(
            "select list_transform($names, lambda name: bucket_of(name))", {"names": [*patches]}
        ).fetchall()
    return [
        Slide(name, path(name), count, bucket) for (name, count), bucket in zip(patches.items(), buckets, strict=True)
    ]


def put(root: Path, table: str, row: Mapping[str, Any]) -> None:
    """Write a row, NULL where it says nothing."""
    store.put(root, table, [{**dict.fromkeys(TABLES[table].schema.names), **row}], "bench")


def add(root: Path, name: str, slides: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> None:
    """Commit the rows of some slides: of each, columns as arrays, or as one value for all of its `rows`."""
    schema = TABLES[name].schema
    tables = [as_rows(columns, schema) for columns in slides]
    store.replace(root, name, pa.concat_tables(tables), [], entries)


def as_rows(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Columns of that schema, given as arrays or as one value for all of the `rows`."""
    return pa.table({field.name: _column(columns, field) for field in schema}, schema=schema)


def _column(columns: Mapping[str, Any], field: pa.Field) -> pa.Array:
    value = columns.get(field.name)
    if isinstance(value, pa.Array):
        return value.cast(field.type)
    if isinstance(value, np.ndarray):
        return pa.array(value, field.type)
    return pa.repeat(pa.scalar(value, field.type), columns["rows"])


def parts(stage: str, slide: Slide, identity: Mapping[str, Any]) -> Iterator[Entry]:
    """What the ledger says of a slide whose patches a stage has done."""
    for part in slide.parts:
        yield entry(stage, slide, identity, rows=slide.rows(part), part=part)


def entry(
    stage: str,
    slide: Slide,
    identity: Mapping[str, Any],
    *,
    rows: int,
    part: int = 0,
    fingerprint: str | None = None,
) -> Entry:
    """What the ledger says of a unit of work that went well."""
    return Entry(
        run_id="bench",
        stage=stage,
        slide_id=slide.slide_id,
        identity=json.dumps(identity, separators=(",", ":")),
        part=part,
        fingerprint=fingerprint or slide.fingerprint,
        status="ok",
        rows=rows,
        errors=0,
        error=None,
        seconds=1.0,
        input_versions="{}",
        parameters=json.dumps({"tissue_od": 0.05}),
    )
