"""A lake with generated embeddings and annotations, as `histolake run` would leave it: labels are made by their stage.

Embeddings are not of any network, but alike in what a solver and a file feel: skewed numbers that all differ, few
directions that vary much and many that vary little, slides that differ as stains do, and tumor that overlaps with
normal tissue. Every other slide has a tumor, at whose edge patches look like either; one patch in ten is tumor.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lake_rows import PART, Slide, add, entry, parts, put, slides_of
from numpy.typing import NDArray
from shapely import box

from lake import creation, store
from lake.pipeline import run_stage
from lake.sql_files import stages
from lake.tables import TABLES

PATCH_SET, ENCODER = "grid-256px-0.5mpp-bench", "bench-encoder"
SPAN = 512  # of a patch, level-0 px
SIDE = 100  # patches in a row of a slide
LATENT = 256  # directions in which embeddings vary together
TUMOR = 0.42  # edge of the tumor, share of the slide's


def write(root: Path, splits: Mapping[str, int], patches: int, dims: int) -> None:
    """Make the lake: so many slides of each split, each with so many patches and embeddings of that length."""
    creation.create(root)
    sides = [split for split, count in splits.items() for _ in range(count)]
    slides = slides_of({f"slide {number:03d}": patches for number in range(len(sides))})
    _write_choices(root, dims)
    _write_slides(root, slides, sides)
    mixing = np.random.default_rng(0).standard_normal((LATENT, dims), np.float32)
    mixing *= (np.arange(1, LATENT + 1, dtype=np.float32) ** -0.5)[:, None]
    for number, slide in enumerate(slides):
        columns = patches_of(slide)
        tiling = {"patch_set": PATCH_SET}
        add(root, "patches", [columns], [*parts("patches", slide, tiling)])
        columns["embedding"] = embeddings(columns, number, mixing)
        add(root, "features", [columns], [*parts("features", slide, {**tiling, "encoder_id": ENCODER})])
    labelling = {"patch_set": PATCH_SET, "label_rule": "centre", "min_covered": None, "kind": "area"}
    run_stage(root, stages(root)["labels"], labelling, run_id="bench")


def copy(made: Path, root: Path) -> Path:
    """The lake again, to be written to, without its files' weight."""
    return Path(shutil.copytree(made, root, copy_function=os.link))


def _write_choices(root: Path, dims: int) -> None:
    tiling = {"tiling": "grid", "patch_px": 256, "mpp": 0.5, "stride_px": 256, "min_tissue": 0.1, "tissue_od": 0.05}
    put(root, "patch_sets", {"patch_set": PATCH_SET, "allow_upsampling": False, **tiling})
    network = {"name": "bench", "sha256": "0", "preprocessing": "{}", "precision": "fp32", "source": "none"}
    put(root, "encoders", {"encoder_id": ENCODER, "input_px": 256, "dims": dims, **network})
    put(root, "settings", {"name": "encoder_id", "value": ENCODER})


def _has_tumor(number: int) -> bool:
    return number % 2 == 0


def _write_slides(root: Path, slides: list[Slide], sides: list[str]) -> None:
    """The slides, and of every other one the outline of its tumor; the rest are known to be normal."""
    edge = SIDE * SPAN
    usual: dict[str, Any] = {
        "path": "none",
        "vendor": "none",
        "width": edge,
        "height": edge,
        "level_count": 1,
        "mpp_x": 0.25,
    }
    usual |= {"mpp_y": 0.25, "mpp_source": "slide", "bytes": 1, "status": "ok"}
    rows, shapes, loads = [], [], []
    for number, (slide, side) in enumerate(zip(slides, sides, strict=True)):
        label = "tumor" if _has_tumor(number) else "normal"
        named = {"slide_id": slide.slide_id, "fingerprint": slide.fingerprint}
        rows.append({**usual, **named, "split": side, "label": label})
        if label == "tumor":
            source = {"source": f"{slide.slide_id}.xml"}
            outline = {"annotation_id": "1", "group_name": "tumor", "label": 1, "is_exclusion": False}
            square = {"geometry": box(0, 0, *[TUMOR * edge] * 2).wkb, "format": "asap_xml"}
            shapes.append({"slide_id": slide.slide_id, **source, **outline, **square})
            loads.append(entry("annotations", slide, {**source, "kind": "area"}, rows=1, fingerprint="1"))
    done = [entry("slides", slide, {}, rows=1) for slide in slides]
    store.replace(root, "slides", pa.Table.from_pylist(rows, schema=TABLES["slides"].schema), [], done)
    store.replace(root, "annotations", pa.Table.from_pylist(shapes, schema=TABLES["annotations"].schema), [], loads)


def patches_of(slide: Slide) -> dict[str, Any]:
    """Columns of the slide's patches: a grid, row by row."""
    row, column = np.divmod(np.arange(slide.patches), SIDE)
    return {
        "slide_id": slide.slide_id,
        "patch_set": PATCH_SET,
        "encoder_id": ENCODER,
        "part": np.arange(slide.patches) // PART,
        "x": column * SPAN,
        "y": row * SPAN,
        "span_x": float(SPAN),
        "span_y": float(SPAN),
        "mpp": 0.5,
        "tissue": 1.0,
        "fingerprint": slide.fingerprint,
        "bucket": slide.bucket,
        "rows": slide.patches,
    }


def embeddings(columns: Mapping[str, Any], number: int, mixing: NDArray[np.float32]) -> pa.Array:
    """Embeddings of a slide's patches, as the column of `features`."""
    rng = np.random.default_rng([1, number])
    y, x = (np.asarray(columns[name]) / (SIDE * SPAN) for name in "yx")
    depth = (TUMOR - np.maximum(x, y)) * 20 if _has_tumor(number) else np.full(len(x), -np.inf)
    is_tumor = depth + rng.logistic(size=len(x)) > 0  # near the edge by chance
    latent = rng.standard_normal((len(x), LATENT), np.float32)
    latent += 0.5 * rng.standard_normal(LATENT, np.float32)  # the slide's stain
    latent[:, 20:60] += np.float32(0.45) * is_tumor[:, None]
    values = latent @ mixing
    values += 0.3 * rng.standard_normal(values.shape, np.float32)
    np.maximum(values, values / 8, out=values)
    offsets = np.arange(len(x) + 1, dtype=np.int32) * mixing.shape[1]
    return pa.ListArray.from_arrays(offsets, values.ravel())
