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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from app_slide import EDGE, MPP
from deltalake.transaction import AddAction
from lake_rows import PART, Slide, as_rows, entry, put, slides_of

from lake import commits, creation, store
from lake.choices import Peaks
from lake.slide_scores import TOP
from lake.store import Entry
from lake.tables import TABLES
from udfs.processors import cores

SPAN = 102  # of a patch, level-0 px: 100,000 of them fit
PEAKS = 8  # detections a slide
DIMS = 4  # of an embedding: as many as it takes to be one
FILES_A_COMMIT = 128
SPLITS = ("train", "train", "train", "validation", "test")

PATCH_SET, ENCODER, MODEL = "grid-102px-0.25mpp-bench", "bench-encoder", "bench-model"

TILING = {"patch_set": PATCH_SET}
EMBEDDED = {**TILING, "encoder_id": ENCODER}
IDENTITIES = {"patches": TILING, "features": EMBEDDED, "predictions": {**EMBEDDED, "model_id": MODEL}}


Unit = tuple[Slide, int]
"""A slide's range of patches."""


def units_of(slides: Sequence[Slide]) -> list[Unit]:
    """All units of the slides."""
    return [(slide, part) for slide in slides for part in slide.parts]


def alike(slides: int, patches: int) -> list[Slide]:
    """Slides of equally many patches, whose files nobody will read."""
    return slides_of({f"slide {number:05d}": patches for number in range(slides)})


def write(root: Path, slides: Sequence[Slide], tables: Sequence[str] = ("patches", "predictions")) -> Path:
    """Make a lake of the slides; returns its folder.

    tables: the large ones that shall have rows; of the others only the ledger tells.
    """
    creation.create(root)
    add_choices(root)
    add_slides(root, slides)
    for stage in IDENTITIES:
        add_units(root, stage, units_of(slides), has_rows=stage in tables)
    _write_findings(root, slides)
    finish(root)
    return root


def finish(root: Path) -> None:
    """What ends a run: the ledger is tidied. The champion comes last, and tells that the lake is whole."""
    store.tidy_ledger(root)
    put(root, "settings", {"name": "champion", "value": MODEL})


def is_whole(root: Path) -> bool:
    """Whether a lake was written to its end."""
    return store.is_lake(root) and store.setting(root, "champion") is not None


def add_choices(root: Path) -> None:
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
    put(root, "patch_sets", patch_set)
    put(root, "models", model)
    for name, value in (("patch_set", PATCH_SET), ("encoder_id", ENCODER)):
        put(root, "settings", {"name": name, "value": value})


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
    store.replace(root, "slides", table, [], [entry("slides", slide, {}, rows=1) for slide in slides])


def add_units(root: Path, stage: str, units: Sequence[Unit], *, has_rows: bool = True) -> None:
    """A stage's rows of the units, and its ledger; the ledger alone without `has_rows`."""
    files = _files(units, is_whole=stage == "patches")
    with ThreadPoolExecutor(cores()) as pool:
        while some := list(itertools.islice(files, FILES_A_COMMIT)):
            entries = entries_of(stage, [*itertools.chain(*some)])
            if not has_rows:
                store.record(root, entries)
                continue
            actions = list(pool.map(partial(_file, root, stage), some))
            table = store.open_table(root, stage)
            table.create_write_transaction([*actions], "append", TABLES[stage].schema, ["bucket"])
            number = store.open_table(root, stage).version()
            store.record(root, [replace(each, table_version=number) for each in entries])


def entries_of(stage: str, units: Sequence[Unit]) -> list[Entry]:
    """What the ledger says of the units; all patches of a slide are one."""
    if stage == "patches":
        return [entry(stage, slide, TILING, rows=slide.patches) for slide in dict.fromkeys(slide for slide, _ in units)]
    return [entry(stage, slide, IDENTITIES[stage], rows=slide.rows(part), part=part) for slide, part in units]


def _files(units: Sequence[Unit], *, is_whole: bool) -> Iterator[list[Unit]]:
    """The units of each file: a commit ends when it has 8,192 rows, or 64 units, and has a file a bucket.

    is_whole: a slide is in one commit.
    """
    waiting: dict[int, list[Unit]] = {}
    rows = count = 0
    for slide, part in units:
        waiting.setdefault(slide.bucket, []).append((slide, part))
        rows, count = rows + slide.rows(part), count + 1
        if is_whole and part != slide.parts[-1]:
            continue
        if rows >= PART or count >= commits.COMMIT_UNITS:
            yield from waiting.values()
            waiting, rows, count = {}, 0, 0
    yield from waiting.values()


def _file(root: Path, stage: str, units: Sequence[Unit]) -> AddAction:
    """Write the units' rows, as one file of the stage's table."""
    rows = pa.concat_tables([unit_rows(stage, unit) for unit in units]).drop_columns("bucket")
    [bucket] = {slide.bucket for slide, _ in units}
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


def unit_rows(stage: str, unit: Unit) -> pa.Table:
    """A unit's patches, embeddings or predictions: warm regions on a cold ground, the same each time."""
    slide, part = unit
    side = EDGE // SPAN
    rng = np.random.default_rng([part, *slide.slide_id.encode()])
    patches = part * PART + np.arange(slide.rows(part))
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
        "tissue": rng.uniform(0.1, 1, len(patches)),
        "probability": np.clip(np.exp(-((far / 12) ** 2)) * 0.9 + rng.uniform(0, 0.1, len(patches)), 0, 1),
        "embedding": pa.FixedSizeListArray.from_arrays(rng.random(len(patches) * DIMS, np.float32), DIMS),
        "fingerprint": slide.fingerprint,
        "bucket": slide.bucket,
        "rows": len(patches),
    }
    return as_rows(columns, TABLES[stage].schema)


def write_log(root: Path, entries: int, *, has_checkpoint: bool) -> None:
    """A lake whose predictions have a log of so many commits of a file each; of the files only the log tells."""
    creation.create(root)
    [slide] = slides_of({"bench": PART})
    statistics = _statistics(unit_rows("predictions", (slide, 0)).drop_columns("bucket"))
    for number in range(1, entries + 1):
        name = f"slide {number:05d}"
        for extremes in (statistics["minValues"], statistics["maxValues"]):
            extremes["slide_id"] = name
        bucket = number % 16
        add = {
            "path": f"bucket={bucket}/part-{number}.parquet",
            "partitionValues": {"bucket": str(bucket)},
            "size": 100_000,
            "modificationTime": 0,
            "dataChange": True,
            "stats": json.dumps(statistics),
        }
        lines = [{"commitInfo": {"timestamp": 0, "operation": "WRITE"}}, {"add": add}]
        file = root / "predictions" / "_delta_log" / f"{number:020d}.json"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if has_checkpoint:
        store.open_table(root, "predictions").create_checkpoint()


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
        entry("detections", slide, peaks, rows=PEAKS, fingerprint=mark)
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
