"""Lakes of any size, written as the stages write them, ledger included; probabilities and embeddings are made up.

A stage commits whenever it holds 8,192 rows, and a commit writes a file a bucket: a table has the same files here.
Only the commits are fewer, each of many files, so that a hundred million rows take minutes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from app_slide import EDGE, MPP
from deltalake.transaction import AddAction

from lake import pipeline, store
from lake.choices import Peaks
from lake.slide_scores import TOP
from lake.sql_files import SQL
from lake.store import Entry
from lake.tables import TABLES

SPAN = 102  # of a patch, level-0 px: 100,000 of them fit
PEAKS = 8  # detections a slide
PART = 8192  # patches of a unit of work
DIMS = 4  # of an embedding: as many as it takes to be one
FILES_A_COMMIT = 128
SPLITS = ("train", "train", "train", "validation", "test")

PATCH_SET, ENCODER, MODEL = "grid-102px-0.25mpp-bench", "bench-encoder", "bench-model"

TILING = {"patch_set": PATCH_SET}
EMBEDDED = {**TILING, "encoder_id": ENCODER}
IDENTITIES = {"patches": TILING, "features": EMBEDDED, "predictions": {**EMBEDDED, "model_id": MODEL}}


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
    def parts(self) -> Iterator[int]:
        """Rows of each of its units."""
        return (min(PART, self.patches - first) for first in range(0, self.patches, PART))


def named(sizes: Mapping[str, int], path: Callable[[str], Path]) -> list[Slide]:
    """Slides of these names and numbers of patches, each with its bucket; `path` tells where a slide's file is."""
    with duckdb.connect() as con:
        con.execute((SQL / "macros/bucket_of.sql").read_text(encoding="utf-8"))
        names = pa.table({"slide_id": pa.array(sizes, pa.string())})
        buckets = dict(con.from_arrow(names).project("slide_id, bucket_of(slide_id)").fetchall())
    return [Slide(name, path(name), patches, buckets[name]) for name, patches in sizes.items()]


def alike(slides: int, patches: int) -> list[Slide]:
    """Slides of equally many patches, whose files nobody will read."""
    return named(
        {f"slide {number:05d}": patches for number in range(slides)}, lambda name: Path("/nowhere") / f"{name}.tif"
    )


def write(root: Path, slides: Sequence[Slide], tables: Sequence[str] = ("patches", "predictions")) -> Path:
    """Make a lake of the slides; returns its folder.

    tables: the large ones that shall have rows; of the others only the ledger tells. Of a lake that is half written
    nothing is known: the last that is written is the champion.
    """
    store.create(root)
    _write_choices(root)
    add_slides(root, slides)
    for stage in IDENTITIES:
        add_units(root, stage, slides, has_rows=stage in tables)
    _write_findings(root, slides)
    store.tidy_ledger(root)
    _put(root, "settings", {"name": "champion", "value": MODEL})
    return root


def is_whole(root: Path) -> bool:
    """Whether a lake was written to its end."""
    return store.is_lake(root) and store.setting(root, "champion") is not None


def _write_choices(root: Path) -> None:
    """The tiling, the encoder and the model."""
    patch_set = {
        "patch_set": PATCH_SET,
        "tiling": "grid",
        "patch_px": SPAN,
        "mpp": MPP,
        "stride_px": SPAN,
        "min_tissue": 0.1,
        "tissue_od": 0.05,
        "allow_upsampling": False,
    }
    model = {
        "model_id": MODEL,
        "encoder_id": ENCODER,
        "patch_set": PATCH_SET,
        "patch_px": SPAN,
        "mpp": MPP,
        "label_rule": "centre",
        "dims": DIMS,
        "uri": "models:/histolake/1",
        "artifact": "mlflow",
        "protocol": "by_slide",
        "head": "logistic",
        "calibration": "none",
        "threshold": 0.5,
        "trained_at": datetime.now(UTC),
        "training_slides": "[]",
        "table_versions": "{}",
        "code_version": store.CODE_VERSION,
    }
    _put(root, "patch_sets", patch_set)
    _put(root, "models", model)
    for name, value in (("patch_set", PATCH_SET), ("encoder_id", ENCODER)):
        _put(root, "settings", {"name": name, "value": value})


def _put(root: Path, table: str, row: Mapping[str, Any]) -> None:
    store.put(root, table, [{**dict.fromkeys(TABLES[table].schema.names), **row}], "bench")


def add_slides(root: Path, slides: Sequence[Slide]) -> None:
    """Rows of `slides`, as ingest would write them."""
    rows = [
        {
            "slide_id": slide.slide_id,
            "path": str(slide.path),
            "vendor": "generic-tiff",
            "width": EDGE,
            "height": EDGE,
            "level_count": 7,
            "mpp_x": MPP,
            "mpp_y": MPP,
            "mpp_source": "slide",
            "bytes": slide.path.stat().st_size if slide.path.exists() else 0,
            "fingerprint": slide.fingerprint,
            "split": SPLITS[number % len(SPLITS)],
            "label": "tumor" if number % 2 else "normal",
            "status": "ok",
        }
        for number, slide in enumerate(slides)
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["slides"].schema)
    store.replace(root, "slides", table, [], [_entry("slides", slide, {}, rows=1) for slide in slides])


def add_units(root: Path, stage: str, slides: Sequence[Slide], *, has_rows: bool = True) -> None:
    """A stage's rows of the slides, and its ledger; the ledger alone without `has_rows`."""
    rng = np.random.default_rng(0)
    files = _files(slides)
    while some := list(itertools.islice(files, FILES_A_COMMIT)):
        entries = [
            _entry(stage, slide, IDENTITIES[stage], rows=len(range(*rows.indices(slide.patches))), part=part)
            for units in some
            for slide, part, rows in units
        ]
        if not has_rows:
            store.record(root, entries)
            continue
        actions = [_file(root, stage, units, rng) for units in some]
        table = store.open_table(root, stage)
        table.create_write_transaction([*actions], "append", TABLES[stage].schema, ["bucket"])
        number = store.open_table(root, stage).version()
        store.record(root, [Entry(**{**vars(each), "table_version": number}) for each in entries])


Unit = tuple[Slide, int, slice]


def _files(slides: Sequence[Slide]) -> Iterator[list[Unit]]:
    """The units of each file: a commit ends when it has 8,192 rows, or 64 units, and has a file a bucket."""
    waiting: dict[int, list[Unit]] = {}
    rows = units = 0
    for slide in slides:
        for part, length in enumerate(slide.parts):
            start = part * PART
            waiting.setdefault(slide.bucket, []).append((slide, part, slice(start, start + length)))
            rows, units = rows + length, units + 1
            if rows >= pipeline.COMMIT_ROWS or units >= pipeline.COMMIT_UNITS:
                yield from waiting.values()
                waiting, rows, units = {}, 0, 0
    yield from waiting.values()


def _file(root: Path, stage: str, units: Sequence[Unit], rng: np.random.Generator) -> AddAction:
    """Write the units' rows, as one file of the stage's table."""
    schema = TABLES[stage].schema
    schema = schema.remove(schema.get_field_index("bucket"))
    rows = pa.concat_tables([_rows(unit, schema, rng) for unit in units])
    [bucket] = {slide.bucket for slide, _, _ in units}
    name = f"bucket={bucket}/part-{uuid.uuid4()}.parquet"
    path = root / stage / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows, path)
    return AddAction(
        name, path.stat().st_size, {"bucket": str(bucket)}, int(time.time() * 1000), True, json.dumps(_statistics(rows))
    )


def _statistics(rows: pa.Table) -> dict[str, Any]:
    """What Delta's log keeps of a file."""
    extremes = {
        name: pc.min_max(rows[name]).as_py() for name in rows.column_names if not pa.types.is_list(rows[name].type)
    }
    known = {name: each for name, each in extremes.items() if each["min"] is not None}
    return {
        "numRecords": rows.num_rows,
        "minValues": {name: each["min"] for name, each in known.items()},
        "maxValues": {name: each["max"] for name, each in known.items()},
        "nullCount": {name: rows[name].null_count for name in rows.column_names},
    }


def _rows(unit: Unit, schema: pa.Schema, rng: np.random.Generator) -> pa.Table:
    """A unit's patches, embeddings or predictions: warm regions on a cold ground."""
    slide, part, chosen = unit
    side = EDGE // SPAN
    patches = np.arange(slide.patches)[chosen]
    row, column = np.divmod(patches, side)
    spots = np.random.default_rng(slide.bucket).uniform(0, side, (6, 2))
    far = np.hypot(column[:, None] - spots[:, 0], row[:, None] - spots[:, 1]).min(axis=1)
    columns: dict[str, Any] = {
        "slide_id": slide.slide_id,
        "patch_set": PATCH_SET,
        "encoder_id": ENCODER,
        "model_id": MODEL,
        "part": part,
        "x": column * SPAN,
        "y": row * SPAN,
        "span_x": float(SPAN),
        "span_y": float(SPAN),
        "mpp": MPP,
        "error": None,
        "fingerprint": slide.fingerprint,
    }
    made: dict[str, Callable[[], Any]] = {
        "tissue": lambda: rng.uniform(0.1, 1, len(patches)),
        "probability": lambda: np.clip(np.exp(-((far / 12) ** 2)) * 0.9 + rng.uniform(0, 0.1, len(patches)), 0, 1),
        "embedding": lambda: list(rng.random((len(patches), DIMS), np.float32)),
    }
    return pa.table(
        {field.name: _column(made.get(field.name, lambda field=field: columns[field.name])(), field, len(patches))
         for field in schema},
        schema=schema,
    )  # fmt: skip


def _column(value: Any, field: pa.Field, rows: int) -> pa.Array:
    if isinstance(value, np.ndarray | list):
        return pa.array(value, field.type)
    return pa.repeat(pa.scalar(value, field.type), rows)


def _write_findings(root: Path, slides: Sequence[Slide]) -> None:
    """Detections and slide scores."""
    rng = np.random.default_rng(1)
    owner = {"patch_set": PATCH_SET, "model_id": MODEL}
    peaks = {**owner, **Peaks().parameters}
    whole = _whole(slides)
    found = [
        {**peaks, "slide_id": slide.slide_id, "x": x, "y": y, "probability": chance, "fingerprint": mark}
        | {"bucket": slide.bucket}
        for slide, mark in zip(slides, whole, strict=True)
        for x, y, chance in rng.uniform((0, 0, 0.1), (EDGE, EDGE, 1), (PEAKS, 3)).tolist()
    ]
    table = pa.Table.from_pylist(found, schema=TABLES["detections"].schema)
    entries = [
        _entry("detections", slide, peaks, rows=PEAKS, fingerprint=mark)
        for slide, mark in zip(slides, whole, strict=True)
    ]
    store.replace(root, "detections", table, [], entries)
    scores = [
        {**owner, "slide_id": slide.slide_id, "name": name, "score": score, "fingerprint": slide.fingerprint}
        for slide in slides
        for name, score in (("max", rng.uniform(0.9, 1)), (f"mean_top{TOP}", rng.uniform(0.8, 0.9)))
    ]
    done = store.entry("slide_scores", run_id="bench", rows=len(scores), parameters={**peaks, "top": TOP})
    store.replace(root, "slide_scores", pa.Table.from_pylist(scores, schema=TABLES["slide_scores"].schema), [], [done])


def _whole(slides: Sequence[Slide]) -> list[str]:
    """heatmaps.fingerprint of the slides."""
    return [
        hashlib.md5(f"{slide.fingerprint}:{slide.patches}".encode(), usedforsecurity=False).hexdigest()
        for slide in slides
    ]


def _entry(
    stage: str,
    slide: Slide,
    identity: Mapping[str, Any],
    *,
    rows: int,
    part: int = 0,
    fingerprint: str | None = None,
) -> Entry:
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
