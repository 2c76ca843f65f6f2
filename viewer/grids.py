"""Routes that give the slide viewer its overlays: heatmaps and outcomes as grids, outlines, and hotspots for QuPath."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import shapely
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lake import export
from lake.choices import lake_path
from lake.patch_grid import PatchGrid
from udfs.errors import HistolakeError, shortened
from viewer import slides
from viewer.reading import Lake, Row, newest_lake

FOREVER = "private, max-age=31536000, immutable"  # what an address with a version gives never changes
ASK_AGAIN = "no-cache"
DIGITS = 12  # of a version; Delta's end at 19

Endpoint = Callable[[Request], Response]


def _answered(endpoint: Callable[[Lake, str, Request], Response]) -> Endpoint:
    """The endpoint on the lake at the version asked for; what fails is a sentence as JSON, with status 404."""

    @wraps(endpoint)
    def answer(request: Request) -> Response:
        try:
            response = endpoint(_lake(request), request.path_params["slide_id"], request)
        except HistolakeError as error:
            return JSONResponse({"error": str(error)}, 404, {"Cache-Control": ASK_AGAIN})
        response.headers["Cache-Control"] = FOREVER if "version" in request.query_params else ASK_AGAIN
        return response

    return answer


@_answered
def heatmap(lake: Lake, slide_id: str, request: Request) -> Response:
    """A byte a cell: 0 for no patch, 1 to 255 for probability 0 to 1; the header tells where the cells are."""
    model = _model(lake, slide_id, request)
    return _grid(slides.heatmap(lake, slide_id, model["model_id"], _patch_set(model, request)))


@_answered
def outcomes(lake: Lake, slide_id: str, request: Request) -> Response:
    """A byte a cell of the heatmap: 1 to 4 for true negative, false positive, false negative, true positive; else 0."""
    model = _model(lake, slide_id, request)
    return _grid(slides.outcomes(lake, slide_id, model["model_id"], _patch_set(model, request)))


@_answered
def outlines(lake: Lake, slide_id: str, request: Request) -> Response:
    """The slide's outlines: meaning, group and rings of x, y, x, y …, level-0 pixels."""
    slides.slide(lake, slide_id)
    shapes = [_shape(row) for row in slides.outlines(lake, slide_id).to_dicts()]
    return JSONResponse({"shapes": [shape for shape in shapes if shape["rings"]]})


@_answered
def hotspots(lake: Lake, slide_id: str, request: Request) -> Response:
    """The hotspots as a file for QuPath."""
    model = _model(lake, slide_id, request)
    found = slides.hotspots(lake, slide_id, model["model_id"], _patch_set(model, request))
    about = {name: model[name] for name in ("model_id", "encoder_id", "patch_set")}
    about |= {"slide_id": slide_id, "table_versions": slides.versions(lake)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hotspots.geojson"
        export.write_hotspots(file, found, model["model_id"], about)
        content = file.read_bytes()
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in slide_id)
    attachment = {"Content-Disposition": f'attachment; filename="{name.encode("ascii", "replace").decode()}.geojson"'}
    return Response(content, media_type="application/geo+json", headers=attachment)


def _lake(request: Request) -> Lake:
    version = request.query_params.get("version")
    if version is None:
        return newest_lake()
    if not version.isdecimal() or len(version) > DIGITS:
        raise HistolakeError(f"version={shortened(version)}: must be a version of the ledger, a whole number")
    return Lake(str(lake_path()), int(version))


def _model(lake: Lake, slide_id: str, request: Request) -> Row:
    slides.slide(lake, slide_id)
    return slides.model(lake, slide_id, request.query_params.get("model"))


def _patch_set(model: Row, request: Request) -> str:
    patch_set = request.query_params.get("patch_set") or model["patch_set"]
    if patch_set is None:
        raise HistolakeError(f"model {model['model_id']} has not scored this slide; `histolake predict` scores it")
    return str(patch_set)


def _grid(grid: PatchGrid) -> Response:
    headers = {"Histolake-Grid": json.dumps(asdict(grid.where))}
    return Response(grid.cells.tobytes(), media_type="application/octet-stream", headers=headers)


def _shape(row: Row) -> dict[str, Any]:
    geometry = shapely.from_wkb(row["geometry"])
    polygons = [part for part in shapely.get_parts(geometry) if isinstance(part, shapely.Polygon)]
    rings = [ring for polygon in polygons for ring in (polygon.exterior, *polygon.interiors)]
    return {
        "name": row["annotation_id"],
        "group": row["group_name"],
        "meaning": row["meaning"],
        "rings": [shapely.get_coordinates(ring).round(1).ravel().tolist() for ring in rings if not ring.is_empty],
    }


ROUTES = [
    Route("/histolake/heatmaps/{slide_id:path}", heatmap),
    Route("/histolake/outcomes/{slide_id:path}", outcomes),
    Route("/histolake/annotations/{slide_id:path}", outlines),
    Route("/histolake/hotspots/{slide_id:path}", hotspots),
]
