"""Pictures of what the lake holds: heatmaps of slides, contact sheets of patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from PIL import Image

from lake import models, session
from lake.compare import Comparison, tiles
from lake.contact_sheet import show
from lake.heatmap import DIFFERENCE, render_heatmap, save_png
from lake.sql_files import query
from udfs.errors import HistolakeError
from udfs.slide import Area


def write_heatmap(
    root: Path, slide_id: str, out: Path, *, region: Area | None = None, tint: bool = False, model: str | None = None
) -> None:
    """Write the slide's heatmap of a model (the champion by default) as PNG.

    Raises HistolakeError when the slide is not in the lake, or has no predictions.
    """
    _refuse_unless_png(out)
    row = models.find(root, model)
    with session.connect(root, udfs=()) as con:
        slide = slide_row(con, slide_id)
        scored = con.execute(
            query("app/heatmap_tiles"), {"slide_id": slide_id, "model_id": row["model_id"], "patch_set": None}
        ).pl()
    if scored.is_empty():
        raise HistolakeError(
            f"slide {slide_id} has no predictions of model {row['model_id']}; `histolake predict` makes them"
        )
    title = f"{slide_id} · model {row['model_id']} · {row['encoder_id']}"
    image = render_heatmap(
        slide["path"], scored, title=title, mpp_x=slide["mpp_x"], mpp_y=slide["mpp_y"], region=region, tint=tint
    )
    _save(image, out)


def write_differences(root: Path, comparison: Comparison, folder: Path, slides: Sequence[str]) -> list[Path]:
    """Write a heatmap of each slide's change of probability from model A to B, SLIDE.png in the folder."""
    a, b = comparison.model_a["model_id"], comparison.model_b["model_id"]
    written = []
    with session.connect(root, udfs=()) as con:
        rows = {slide_id: slide_row(con, slide_id) for slide_id in slides}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistolakeError(f"--out {folder}: no folder can be made there: {error.strerror or error}") from None
    for slide_id, slide in rows.items():
        image = render_heatmap(
            slide["path"],
            tiles(root, comparison, slide_id),
            title=f"{slide_id} · from model {a} to {b}",
            mpp_x=slide["mpp_x"],
            mpp_y=slide["mpp_y"],
            scale=DIFFERENCE,
        )
        written.append(folder / f"{slide_id}.png")
        _save(image, written[-1])
    return written


def write_contact_sheet(root: Path, slide_id: str, out: Path, *, patches: int, mpp: Sequence[float]) -> None:
    """Write a contact sheet of patches spread over the slide as PNG.

    Raises HistolakeError when the slide is not in the lake, or has no patches.
    """
    _refuse_unless_png(out)
    with session.connect(root, udfs=()) as con:
        slide_row(con, slide_id)
        frame = con.execute(query("app/sample_patches"), {"slide_id": slide_id, "patches": patches}).pl()
    if frame.is_empty():
        raise HistolakeError(f"slide {slide_id} has no patches; `histolake run` finds them")
    _save(show(frame, mpp=mpp), out)


def write_patches(frame: pl.DataFrame, out: Path) -> None:
    """Write a contact sheet of a frame's patches as PNG; its columns: see `contact_sheet.show`."""
    _refuse_unless_png(out)
    _save(show(frame), out)


def slide_row(con: duckdb.DuckDBPyConnection, slide_id: str) -> dict[str, Any]:
    """The slide's row. Raises HistolakeError when it is not in the lake, or unusable."""
    rows = con.execute("select * from slides where slide_id = $slide", {"slide": slide_id}).pl().to_dicts()
    if not rows:
        known = [row[0] for row in con.execute("select slide_id from slides order by all limit 10").fetchall()]
        raise HistolakeError(f"no slide {slide_id!r} in the lake; it has {', '.join(known) or 'none'}")
    if rows[0]["status"] != "ok":
        raise HistolakeError(f"slide {slide_id} cannot be used: {rows[0]['error']}")
    return rows[0]


def _refuse_unless_png(out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise HistolakeError(f"--out {out}: only .png can be written")


def _save(image: Image.Image, out: Path) -> None:
    try:
        save_png(image, out)
    except OSError as error:
        raise HistolakeError(f"{out}: cannot be written: {error.strerror or error}") from None
