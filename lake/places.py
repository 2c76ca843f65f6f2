"""Finds what a person means by a place on a slide: its patch, or a region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from lake import session
from lake.sql_files import query
from udfs.annotations.shapes import FARTHEST
from udfs.errors import HistolakeError, shortened
from udfs.slide import Area

PLACES = pa.schema([("slide_id", pa.string()), ("x", pa.float64()), ("y", pa.float64()), ("position", pa.int64())])


@dataclass(frozen=True)
class Place:
    """A point on a slide, level-0 px."""

    slide_id: str
    x: float
    y: float


def patches_at(
    con: duckdb.DuckDBPyConnection,
    places: Sequence[Place],
    model: Mapping[str, Any] | None,
    patch_set: str | None = None,
) -> list[dict[str, Any]]:
    """The patch that each place means, see sql/trace/patch_at.sql; one row of it a place, in their order.

    model: its row; only patches that it may score are meant, and they come with its probability.
    Raises HistolakeError for a slide or patch set that is not in the lake, and where no patch is.
    """
    _refuse_unknown(con, places, model, patch_set)
    rows = [{**asdict(place), "position": position} for position, place in enumerate(places)]
    con.register("places", pa.Table.from_pylist(rows, schema=PLACES))
    try:
        parameters = {"model_id": model["model_id"] if model else None, "patch_set": patch_set}
        found = con.execute(query("trace/patch_at"), parameters).pl().to_dicts()
    finally:
        con.unregister("places")
    covered = {row["position"] for row in found}
    for position, place in enumerate(places):
        if position not in covered:
            raise _nothing_there(con, place, patch_set)
    return found


def _refuse_unknown(
    con: duckdb.DuckDBPyConnection, places: Sequence[Place], model: Mapping[str, Any] | None, patch_set: str | None
) -> None:
    slides = [row[0] for row in con.execute("select slide_id from slides order by slide_id").fetchall()]
    known = set(slides)
    for place in places:
        if place.slide_id not in known:
            more = " …" if len(slides) > 10 else ""
            raise HistolakeError(
                f"no slide {place.slide_id!r} in the lake; it has {', '.join(slides[:10]) or 'none'}{more}"
            )
    if patch_set is None:
        return
    tilings = {
        name: (px, mpp) for name, px, mpp in con.execute("select patch_set, patch_px, mpp from patch_sets").fetchall()
    }
    if patch_set not in tilings:
        raise HistolakeError(
            f"--patch-set {patch_set}: no such patch set; there are {', '.join(sorted(tilings)) or 'none'}"
        )
    if model and tilings[patch_set] != (model["patch_px"], model["mpp"]):
        raise HistolakeError(
            f"--patch-set {patch_set}: model {model['model_id']} scores patches of {model['patch_px']} px "
            f"at {model['mpp']:g} microns per px only"
        )


def _nothing_there(con: duckdb.DuckDBPyConnection, place: Place, patch_set: str | None) -> HistolakeError:
    nearest = con.execute(query("trace/nearest_patch"), {**asdict(place), "patch_set": patch_set}).fetchall()
    where = f"slide {place.slide_id}: no patch at {place.x:g}, {place.y:g}"
    if not nearest:
        return HistolakeError(f"{where}: the slide has none{_of(patch_set)}; `histolake run` finds them")
    [(name, x, y)] = nearest
    return HistolakeError(f"{where}; the nearest begins at {x}, {y} ({name})")


def _of(patch_set: str | None) -> str:
    return f" of {patch_set}" if patch_set else ""


def area_named(root: Path, text: str, slide: str | None) -> Area:
    """The region meant by 'X,Y,W,H' (level-0 px) or by the name of an annotation of `slide`: its bounding box.

    Raises HistolakeError when it is neither.
    """
    numbers = text.split(",")
    if len(numbers) == 4:
        try:
            x, y, width, height = (float(number) for number in numbers)
        except ValueError:
            pass
        else:
            if not (abs(x) < FARTHEST and abs(y) < FARTHEST and 0 < width < FARTHEST and 0 < height < FARTHEST):
                raise HistolakeError(f"--region {shortened(text)}: no slide has it; width and height must be above 0")
            return Area(x, y, width, height)
    if slide is None:
        raise HistolakeError(f"--region {shortened(text)}: give X,Y,W,H, or name one slide whose annotation that is")
    with session.connect(root, udfs=["bounding_box"]) as con:
        rows = con.execute(
            "select annotation_id, bounding_box(geometry) from annotations "
            "where slide_id = $slide and format <> 'ncrf_csv' order by annotation_id",
            {"slide": slide},
        ).fetchall()
    for name, box in rows:
        if name == text and box:
            return Area(*box)
    has = ", ".join(repr(name) for name, _ in rows) or "none"
    raise HistolakeError(f"--region {shortened(text)}: neither X,Y,W,H nor an annotation of {slide}, which has {has}")
