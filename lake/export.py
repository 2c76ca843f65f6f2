"""What the lake holds of slides, written for other programs: QuPath's GeoJSON, and Camelyon16's CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import shapely

from lake import audit, models, session
from lake.files import replacing
from lake.geojson import Class, PathObject, write_geojson
from lake.heatmap_grid import PROBABILITY, scored
from lake.sql_files import query
from lake.table_files import of_slide
from udfs.errors import HistolakeError
from udfs.slide import Area

GEOJSON, CSV = ".geojson", ".csv"
TUMOR, NORMAL, HOTSPOT = Class("Tumor", (200, 0, 0)), Class("Normal", (0, 114, 178)), Class("Hotspot", (230, 159, 0))
EXCLUDED, UNKNOWN = (120, 120, 120), (204, 121, 167)  # colors of other groups
ANNOTATION_TABLES = ("annotations",)
PREDICTION_TABLES = ("slides", "patches", "models", "predictions")
HOTSPOT_TABLES = (*PREDICTION_TABLES, "detections")


@dataclass(frozen=True)
class Written:
    """A file that was written of a slide, and how many objects or rows it holds."""

    slide_id: str
    file: str
    objects: int


def export_annotations(root: Path, out: Path, *, slides: Sequence[str] = ()) -> list[Written]:
    """Write every shape of the slides as QuPath annotations, one GeoJSON file a slide.

    Shapes without area or place, which a reader kept for their note, are left out.
    Raises HistolakeError when no slide asked for has annotations.
    """
    with session.connect(root, udfs=()) as con:
        rows = con.execute(query("export/annotations"), {"slides": list(slides)}).pl()
        about, versions = _about(con, ANNOTATION_TABLES), session.versions(con)
    if rows.is_empty():
        raise HistolakeError(f"{_asked(slides)} annotations in the lake; `histolake ingest --annotations` reads some")
    by_slide = rows.partition_by("slide_id", as_dict=True, maintain_order=True)
    files = targets(out, [str(key[0]) for key in by_slide], GEOJSON)
    audit.record_export(root, "annotations", files, versions)
    return [
        Written(slide_id, str(file), write_geojson(file, _shapes(by_slide[slide_id,]), {"slide_id": slide_id, **about}))
        for slide_id, file in files.items()
    ]


def _shapes(rows: pl.DataFrame) -> Iterator[PathObject]:
    for row in rows.iter_rows(named=True):
        geometry = shapely.from_wkb(row["geometry"])
        if geometry.is_empty:
            continue
        yield PathObject(
            key=("annotation", row["slide_id"], row["source"], row["annotation_id"]),
            geometry=geometry,
            kind="annotation",
            name=row["annotation_id"],
            classification=None if row["group_name"] is None else Class(row["group_name"], _color(row)),
            metadata={name: row[name] for name in ("source", "note") if row[name] is not None},
        )


def _color(row: Mapping[str, Any]) -> tuple[int, int, int]:
    if row["is_exclusion"]:
        return EXCLUDED
    return UNKNOWN if row["label"] is None else TUMOR.color if row["label"] else NORMAL.color


def export_predictions(root: Path, out: Path, *, slides: Sequence[str] = (), model: str | None = None) -> list[Written]:
    """Write a model's probability (the champion's by default) of every patch as QuPath tiles, one GeoJSON file a slide.

    Raises HistolakeError when the model has scored none of the slides asked for.
    """
    row = models.find(root, model)
    with session.connect(root, udfs=()) as con:
        known = con.execute(query("export/predicted_slides"), {"slides": list(slides), "model_id": row["model_id"]})
        ids = [slide_id for (slide_id,) in known.fetchall()]
        if not ids:
            raise HistolakeError(
                f"{_asked(slides)} predictions of model {row['model_id']}; `histolake predict` makes them"
            )
        files = targets(out, ids, GEOJSON)
        audit.record_export(root, "predictions", files, session.versions(con), row["model_id"])
        return [
            Written(slide_id, str(file), write_tiles(con, file, slide_id, row, scored_tiles(con, slide_id, row)))
            for slide_id, file in files.items()
        ]


def scored_tiles(con: duckdb.DuckDBPyConnection, slide_id: str, model: Mapping[str, Any]) -> pl.DataFrame:
    """The patches of a slide with the probability that the model gives them.

    Raises HistolakeError when it has scored none.
    """
    which = {"slide_id": slide_id, "model_id": model["model_id"], "patch_set": None}
    with of_slide(con, slide_id):
        tiles = con.execute(query("app/heatmap_tiles"), which).pl()
    if tiles.is_empty():
        raise HistolakeError(
            f"slide {slide_id} has no predictions of model {model['model_id']}; `histolake predict` makes them"
        )
    return tiles


def touching(tiles: pl.DataFrame, region: Area | None) -> pl.DataFrame:
    """The tiles that share pixels with the region (level-0 pixels); all of them without one."""
    if region is None:
        return tiles
    x, y = pl.col("x"), pl.col("y")
    return tiles.filter(
        x < region.x + region.width,
        x + pl.col("span_x") > region.x,
        y < region.y + region.height,
        y + pl.col("span_y") > region.y,
    )


def write_tiles(
    con: duckdb.DuckDBPyConnection, path: Path, slide_id: str, model: Mapping[str, Any], tiles: pl.DataFrame
) -> int:
    """Write tiles as QuPath tiles with their probability and class; returns how many.

    Raises HistolakeError for tiles that lack a column or whose probability is no probability.
    """
    threshold = float(model["threshold"])
    about = _about(con, PREDICTION_TABLES, model) | {"slide_id": slide_id, "threshold": threshold}
    return write_geojson(path, tile_objects(scored(tiles, PROBABILITY), slide_id, model["model_id"], threshold), about)


def tile_objects(tiles: pl.DataFrame, slide_id: str, model_id: str, threshold: float) -> Iterator[PathObject]:
    """Scored tiles as QuPath tiles: tumor from the threshold on, else normal."""
    for x, y, span_x, span_y, probability in tiles.iter_rows():
        yield PathObject(
            key=("tile", slide_id, model_id, x, y, span_x, span_y),
            geometry=shapely.box(x, y, x + span_x, y + span_y),
            kind="tile",
            classification=TUMOR if probability >= threshold else NORMAL,
            measurements={"probability": probability},
        )


def export_hotspots(
    root: Path,
    out: Path,
    *,
    slides: Sequence[str] = (),
    ending: str = GEOJSON,
    model: str | None = None,
    radius_um: float | None = None,
    smoothing_um: float | None = None,
) -> list[Written]:
    """Write the peaks of a model's heatmaps, one file a slide, also of slides that have none.

    ending: '.geojson' writes QuPath points with rank and probability; '.csv' Camelyon16's own form for its
    FROC, `probability,x,y` without a header, highest first. There x and y (level-0 pixels) are whole,
    cut off as the evaluation cuts them, so that each peak falls on the same pixel of its mask.
    radius_um, smoothing_um: of the search for peaks, microns; by default those of the newest one.
    Raises HistolakeError when no peaks were looked for on the slides asked for.
    """
    row = models.find(root, model)
    asked = {"slides": list(slides), "radius_um": radius_um, "smoothing_um": smoothing_um}
    with session.connect(root, udfs=()) as con:
        rows = con.execute(query("export/hotspots"), {**asked, "model_id": row["model_id"]}).pl()
        about, versions = _about(con, HOTSPOT_TABLES, row), session.versions(con)
    if rows.is_empty():
        raise HistolakeError(
            f"{_asked(slides)} detections of model {row['model_id']} with that radius and smoothing yet; "
            "`histolake evaluate` makes them"
        )
    by_slide = rows.partition_by("slide_id", as_dict=True, maintain_order=True)
    files = targets(out, [str(key[0]) for key in by_slide], ending)
    audit.record_export(root, "hotspots", files, versions, row["model_id"])
    written = []
    for slide_id, file in files.items():
        search = by_slide[slide_id,]
        peaks = search.drop_nulls("probability")
        if ending == CSV:
            _write_rows(file, peaks.select("probability", pl.col("x", "y").floor().cast(pl.Int64)))
        else:
            found_with = search.select("slide_id", "patch_set", "radius_um", "smoothing_um").row(0, named=True)
            write_geojson(file, _points(peaks, row["model_id"]), about | found_with)
        written.append(Written(slide_id, str(file), peaks.height))
    return written


def write_hotspots(path: Path, peaks: pl.DataFrame, model_id: str, about: Mapping[str, Any]) -> int:
    """Write the rows of sql/app/hotspots.sql as QuPath points at the centres of their patches; returns how many."""
    centres = peaks.with_columns(
        x=pl.col("x") + pl.col("span_x") / 2, y=pl.col("y") + pl.col("span_y") / 2, smoothing_um=pl.lit(0.0)
    )
    return write_geojson(path, _points(centres, model_id), about)


def _points(peaks: pl.DataFrame, model_id: str) -> Iterator[PathObject]:
    for row in peaks.iter_rows(named=True):
        yield PathObject(
            key=("hotspot", row["slide_id"], model_id, row["radius_um"], row["smoothing_um"], row["x"], row["y"]),
            geometry=shapely.Point(row["x"], row["y"]),
            kind="annotation",  # QuPath lists annotations, and leads to the one that is clicked
            name=f"hotspot {row['rank']}",
            classification=HOTSPOT,
            measurements={"rank": row["rank"], "probability": row["probability"]},
        )


def export_scores(
    root: Path, out: Path, *, slides: Sequence[str] = (), model: str | None = None, name: str = "max"
) -> list[Written]:
    """Write one CSV file, `slide_id,score` a slide without a header, as Camelyon16 asks of the slide task.

    name: way of scoring, see the table slide_scores.
    Raises HistolakeError when there are no such scores.
    """
    row = models.find(root, model)
    which = {"slides": list(slides), "model_id": row["model_id"], "patch_set": row["patch_set"], "name": name}
    with session.connect(root, udfs=()) as con:
        rows, versions = con.execute(query("export/scores"), which).pl(), session.versions(con)
    if rows.is_empty():
        raise HistolakeError(
            f"{_asked(slides)} score {name!r} of model {row['model_id']} yet; `histolake evaluate` makes them"
        )
    if out.suffix.lower() != CSV:
        raise HistolakeError(f"--out {out}: slide scores are one {CSV} file; give it that ending")
    audit.record_export(root, "scores", dict.fromkeys(rows["slide_id"], out), versions, row["model_id"])
    _write_rows(out, rows)
    return [Written(slide_id, str(out), 1) for slide_id in rows["slide_id"]]


def _write_rows(path: Path, rows: pl.DataFrame) -> None:
    with replacing(path) as partial:
        rows.write_csv(partial, include_header=False)


def targets(out: Path, slide_ids: Sequence[str], ending: str) -> dict[str, Path]:
    """The file to write of each slide: `out` itself if it has the ending, else one in the folder `out`.

    Raises HistolakeError for another ending, for one file of several slides, and for ids that cannot be names of files.
    """
    suffix = out.suffix.lower()
    if suffix == ending:
        if len(slide_ids) > 1:
            raise HistolakeError(f"--out {out}: one file for {len(slide_ids)} slides; name a folder, or one --slide")
        return {slide_ids[0]: out}
    if suffix in (GEOJSON, CSV):
        raise HistolakeError(f"--out {out}: must end in {ending}, or be a folder")
    for slide_id in slide_ids:
        if Path(slide_id).name != slide_id:
            raise HistolakeError(f"slide {slide_id}: no file can have this name; export it with --out NAME{ending}")
    return {slide_id: out / f"{slide_id}{ending}" for slide_id in slide_ids}


def _asked(slides: Sequence[str]) -> str:
    return f"--slide {' --slide '.join(slides)}: no" if slides else "no"


def _about(
    con: duckdb.DuckDBPyConnection, tables: Sequence[str], model: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Where exported rows come from: the model, and the versions of the tables that were read."""
    of_model = {name: model[name] for name in ("model_id", "encoder_id", "mlflow_run_id")} if model else {}
    versions = session.versions(con)
    return {**of_model, "table_versions": {name: versions[name] for name in tables}}
