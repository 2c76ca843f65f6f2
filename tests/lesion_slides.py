"""Slides with outlined tumor and detections, as the queries of the lesion task read them, without a lake."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import polars as pl
import shapely

from lake import lesions
from udfs.registry import UDFS

Detection = tuple[float, float, float]  # probability, x, y


@dataclass(frozen=True)
class Slide:
    """A slide that was scored. area: its tumor, level-0 px; None if nobody looked."""

    slide_id: str
    area: shapely.Geometry | None
    detections: list[Detection]
    split: str = "test"
    label: str | None = None
    mpp: tuple[float, float] = (0.243, 0.243)


def database(slides: list[Slide]) -> duckdb.DuckDBPyConnection:
    """A database with the functions and relations that findings.sql names."""
    con = duckdb.connect()
    for name in lesions.FUNCTIONS:
        UDFS[name].register(con)
    register(con, slides)
    return con


def register(con: duckdb.DuckDBPyConnection, slides: list[Slide]) -> None:
    """Put the slides into the relations."""
    key = {"patch_set": "p", "model_id": "m", "fingerprint": "f", "bucket": 0}
    rows = [{"slide_id": each.slide_id, **key} for each in slides]
    looked_at = [each for each in slides if each.area is not None]
    shapes = [(each.slide_id, shapely.to_wkb(each.area), False) for each in looked_at if not each.area.is_empty]
    about = [(each.slide_id, each.split, each.label, *each.mpp) for each in slides]
    peaks = lesions.Peaks().parameters
    detections = [
        {"slide_id": each.slide_id, **key, **peaks, "probability": probability, "x": float(x), "y": float(y)}
        for each in slides
        for probability, x, y in each.detections
    ]
    numbers = dict.fromkeys([*peaks, "probability", "x", "y"], pl.Float64)
    is_normal = [each for each in slides if each.area is None and each.label == "normal"]
    frames = {
        "heatmaps": pl.DataFrame(rows),
        "detections": pl.DataFrame(detections, {**pl.DataFrame(rows).schema, **numbers}),
        "slides": pl.DataFrame(
            about,
            {"slide_id": pl.String, "split": pl.String, "label": pl.String, "mpp_x": pl.Float64, "mpp_y": pl.Float64},
            orient="row",
        ),
        "annotated_slides": pl.DataFrame(
            {"slide_id": [each.slide_id for each in looked_at + is_normal]}, {"slide_id": pl.String}
        ).with_columns(kind=pl.lit("area")),
        "tumor_shapes": pl.DataFrame(
            shapes, {"slide_id": pl.String, "geometry": pl.Binary, "is_exclusion": pl.Boolean}, orient="row"
        ),
    }
    for name, frame in frames.items():
        con.register(name, frame.to_arrow())
