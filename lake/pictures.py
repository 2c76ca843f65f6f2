"""Pictures of what the lake holds: heatmaps of slides, contact sheets of patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from PIL import Image

from lake import export, models, session
from lake.compare import Comparison, tiles
from lake.contact_sheet import show
from lake.export import scored_tiles, touching, write_tiles
from lake.files import replacing
from lake.heatmap import render_heatmap, save_png
from lake.heatmap_frame import BANNER
from lake.heatmap_grid import DIFFERENCE
from lake.heatmap_tiff import write_heatmap_tiff
from lake.sql_files import query
from lake.table_files import of_slide
from udfs.errors import HistolakeError
from udfs.slide import Area

HEATMAPS = (".png", ".geojson", ".tif", ".tiff")


def write_heatmap(
    root: Path, slide_id: str, out: Path, *, region: Area | None = None, tint: bool = False, model: str | None = None
) -> None:
    """Write the slide's heatmap of a model (the champion by default), as what `out` ends in.

    .png is a picture of the slide or region; .tif a pyramid of the slide's own size and resolution; .geojson
    are QuPath tiles. Of the latter two a region keeps the patches that touch it. `tint` is for .png alone.
    Raises HistolakeError when the slide is not in the lake, or has no predictions, and for other endings.
    """
    ending = out.suffix.lower()
    if ending not in HEATMAPS:
        raise HistolakeError(f"--out {out}: a heatmap is a {', '.join(HEATMAPS[:-1])} or {HEATMAPS[-1]} file")
    if tint and ending != ".png":
        raise HistolakeError(f"--out {out}: --tint reddens the slide's own pixels, which only a .png shows")
    row = models.find(root, model)
    with session.connect(root, udfs=()) as con:
        slide = slide_row(con, slide_id)
        scored = scored_tiles(con, slide_id, row)
        if ending == ".geojson":
            write_tiles(con, out, slide_id, row, touching(scored, region))
            return
    title = f"{slide_id} · model {row['model_id']} · {row['encoder_id']}"
    mpp = (slide["mpp_x"], slide["mpp_y"]) if slide["mpp_x"] and slide["mpp_y"] else None
    if ending == ".png":
        mpp_x, mpp_y = mpp or (None, None)
        image = render_heatmap(slide["path"], scored, title=title, mpp_x=mpp_x, mpp_y=mpp_y, region=region, tint=tint)
        _save(image, out)
    else:
        with replacing(out) as partial:
            write_heatmap_tiff(
                partial,
                touching(scored, region),
                width=slide["width"],
                height=slide["height"],
                mpp=mpp,
                description=f"histolake heatmap: {title}. {BANNER}",
            )


def write_differences(root: Path, comparison: Comparison, folder: Path, slides: Sequence[str]) -> list[Path]:
    """Write a heatmap of each slide's change of probability from model A to B, SLIDE.png in the folder."""
    a, b = comparison.model_a["model_id"], comparison.model_b["model_id"]
    files = export.targets(folder, slides, ".png")
    written = []
    with session.connect(root, udfs=()) as con:
        rows = {slide_id: slide_row(con, slide_id) for slide_id in slides}
    for slide_id, slide in rows.items():
        image = render_heatmap(
            slide["path"],
            tiles(root, comparison, slide_id),
            title=f"{slide_id} · from model {a} to {b}",
            mpp_x=slide["mpp_x"],
            mpp_y=slide["mpp_y"],
            scale=DIFFERENCE,
        )
        written.append(files[slide_id])
        _save(image, written[-1])
    return written


def write_contact_sheet(root: Path, slide_id: str, out: Path, *, patches: int, mpp: Sequence[float]) -> None:
    """Write a contact sheet of patches spread over the slide as PNG.

    Raises HistolakeError when the slide is not in the lake, or has no patches.
    """
    _refuse_unless_png(out)
    with session.connect(root, udfs=()) as con:
        slide_row(con, slide_id)
        with of_slide(con, slide_id):
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
        raise HistolakeError(f"--out {out}: a contact sheet is a .png file")


def _save(image: Image.Image, out: Path) -> None:
    with replacing(out) as partial:
        save_png(image, partial)
