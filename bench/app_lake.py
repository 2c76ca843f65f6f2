"""A lake as large as the app has to bear: 1,000 slides, 10 million predictions, one slide of 100,000 patches.

The tables are written as the stages write them, ledger included, but with probabilities that no model gave; all
slides are links to one pyramid of generated tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from app_slide import EDGE, MPP, write_slide
from lake_rows import PART, Slide, add, entry, parts, put, slides_of

from lake import store
from lake.lesions import Peaks
from lake.slide_scores import TOP
from lake.tables import TABLES

SLIDES = 1000
LARGE = "large"  # the slide of most patches
LARGE_PATCHES = 100_000
PREDICTIONS = 10_000_000
SPAN = 102  # of a patch, level-0 px: 100,000 of them fit
PEAKS = 8  # detections a slide
SLIDES_A_COMMIT = 8  # as the stages commit: some 80,000 rows

PATCH_SET, ENCODER, MODEL = "grid-102px-0.25mpp-bench", "bench-encoder", "bench-model"


def write(folder: Path) -> Path:
    """Write the slides and the lake into a folder; returns the lake's. Takes minutes and some gigabytes of disk."""
    file = folder / "slide.tif"
    write_slide(file)
    root = folder / "lake"
    store.create(root)
    slides = _slides()
    (folder / "slides").mkdir()
    for slide in slides:
        _path(folder, slide).symlink_to(file)
    _write_choices(root)
    _write_slides(root, folder, slides, file.stat().st_size)
    _write_patches(root, slides)
    _write_findings(root, slides)
    return root


def _slides() -> list[Slide]:
    names = [LARGE, *(f"slide {number:04d}" for number in range(1, SLIDES))]
    others = -(-(PREDICTIONS - LARGE_PATCHES) // (SLIDES - 1))
    return slides_of({name: LARGE_PATCHES if name == LARGE else others for name in names})


def _path(folder: Path, slide: Slide) -> Path:
    return folder / "slides" / f"{slide.slide_id}.tif"


def _write_choices(root: Path) -> None:
    """The tiling, the encoder and the champion."""
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
        "dims": 1280,
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
    for name, value in (("patch_set", PATCH_SET), ("encoder_id", ENCODER), ("champion", MODEL)):
        put(root, "settings", {"name": name, "value": value})


def _write_slides(root: Path, folder: Path, slides: Sequence[Slide], size: int) -> None:
    splits = ("train", "train", "train", "validation", "test")
    rows = [
        {
            "slide_id": slide.slide_id,
            "path": str(_path(folder, slide)),
            "vendor": "generic-tiff",
            "width": EDGE,
            "height": EDGE,
            "level_count": 7,
            "mpp_x": MPP,
            "mpp_y": MPP,
            "mpp_source": "slide",
            "bytes": size,
            "fingerprint": slide.fingerprint,
            "split": splits[number % len(splits)],
            "label": "tumor" if number % 2 else "normal",
            "status": "ok",
        }
        for number, slide in enumerate(slides)
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["slides"].schema)
    store.replace(root, "slides", table, [], [entry("slides", slide, {}, rows=1) for slide in slides])


def _write_patches(root: Path, slides: Sequence[Slide]) -> None:
    """Patches and predictions, a few slides a commit, and the ledger of the features between them."""
    rng = np.random.default_rng(0)
    tiling = {"patch_set": PATCH_SET}
    featured = {**tiling, "encoder_id": ENCODER}
    scored = {**featured, "model_id": MODEL}
    for first in range(0, len(slides), SLIDES_A_COMMIT):
        some = slides[first : first + SLIDES_A_COMMIT]
        rows = [_heatmap(slide, rng) for slide in some]
        add(root, "patches", rows, [each for slide in some for each in parts("patches", slide, tiling)])
        store.record(root, [each for slide in some for each in parts("features", slide, featured)])
        add(root, "predictions", rows, [each for slide in some for each in parts("predictions", slide, scored)])


def _heatmap(slide: Slide, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of the slide's patches and predictions: warm regions on a cold ground."""
    side = EDGE // SPAN
    row, column = np.divmod(np.arange(slide.patches), side)
    spots = rng.uniform(0, side, (6, 2))
    far = np.hypot(column[:, None] - spots[:, 0], row[:, None] - spots[:, 1]).min(axis=1)
    return {
        "slide_id": slide.slide_id,
        "patch_set": PATCH_SET,
        "model_id": MODEL,
        "part": np.arange(slide.patches) // PART,
        "x": column * SPAN,
        "y": row * SPAN,
        "span_x": float(SPAN),
        "span_y": float(SPAN),
        "mpp": MPP,
        "tissue": rng.uniform(0.1, 1, slide.patches),
        "probability": np.clip(np.exp(-((far / 12) ** 2)) * 0.9 + rng.uniform(0, 0.1, slide.patches), 0, 1),
        "fingerprint": slide.fingerprint,
        "bucket": slide.bucket,
        "rows": slide.patches,
    }


def _write_findings(root: Path, slides: Sequence[Slide]) -> None:
    """Detections and slide scores."""
    rng = np.random.default_rng(1)
    owner = {"patch_set": PATCH_SET, "model_id": MODEL}
    peaks = {**owner, **Peaks().parameters}
    found = [
        {**peaks, "slide_id": slide.slide_id, "x": x, "y": y, "probability": chance, "fingerprint": _whole(slide)}
        | {"bucket": slide.bucket}
        for slide in slides
        for x, y, chance in rng.uniform((0, 0, 0.1), (EDGE, EDGE, 1), (PEAKS, 3)).tolist()
    ]
    table = pa.Table.from_pylist(found, schema=TABLES["detections"].schema)
    entries = [entry("detections", slide, peaks, rows=PEAKS, fingerprint=_whole(slide)) for slide in slides]
    store.replace(root, "detections", table, [], entries)
    scores = [
        {**owner, "slide_id": slide.slide_id, "name": name, "score": score, "fingerprint": slide.fingerprint}
        for slide in slides
        for name, score in (("max", rng.uniform(0.9, 1)), (f"mean_top{TOP}", rng.uniform(0.8, 0.9)))
    ]
    done = store.entry("slide_scores", run_id="bench", rows=len(scores), parameters={**peaks, "top": TOP})
    store.replace(root, "slide_scores", pa.Table.from_pylist(scores, schema=TABLES["slide_scores"].schema), [], [done])


def _whole(slide: Slide) -> str:
    """heatmaps.fingerprint of the slide."""
    [(found,)] = duckdb.execute("select md5($text)", {"text": f"{slide.fingerprint}:{slide.patches}"}).fetchall()
    return str(found)
