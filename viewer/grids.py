"""Routes that give the slide viewer its overlays: heatmaps and outcomes as grids, outlines, and hotspots for QuPath."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from http import HTTPStatus
from pathlib import Path
from typing import Any

import shapely
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lake import export
from lake.audit import Action, Deed
from lake.choices import lake_path
from lake.patch_grid import PatchGrid
from lake.store import CODE_VERSION
from udfs.errors import AuditError, HistolakeError, MachineError, StorageError, shortened
from viewer import slides
from viewer.audited import record
from viewer.person import person_of
from viewer.reading import Lake, Row, newest_lake, version_number

ASK_AGAIN = "private, no-cache"  # a browser keeps it, and asks whether it may show it and whether it has changed
EACH_TIME = "no-store"  # what is saved is recorded

Endpoint = Callable[[Request], Response]
OnLake = Callable[[Lake, str, Request], Response]


def _answered(endpoint: OnLake) -> Endpoint:
    """The endpoint on the lake at the version asked for; what fails is a sentence as JSON.

    What an address with a version gives never changes, so that a browser that has it is not sent it again.
    """

    @wraps(endpoint)
    def answer(request: Request) -> Response:
        headers = {"Cache-Control": ASK_AGAIN}
        if "version" in request.query_params:
            headers["ETag"] = f'"{CODE_VERSION}"'
            if headers["ETag"] in request.headers.get("If-None-Match", ""):
                return Response(status_code=304, headers=headers)
        return _answer(endpoint, request, headers)

    return answer


def _recorded(endpoint: OnLake) -> Endpoint:
    """The endpoint likewise, asked anew each time: that something is saved is recorded."""

    @wraps(endpoint)
    def answer(request: Request) -> Response:
        return _answer(endpoint, request, {"Cache-Control": EACH_TIME})

    return answer


def _answer(endpoint: OnLake, request: Request, headers: Mapping[str, str]) -> Response:
    try:
        response = endpoint(_lake(request), request.path_params["slide_id"], request)
    except HistolakeError as error:
        has_failed = isinstance(error, AuditError | StorageError | MachineError)  # else it is not there
        status = HTTPStatus.INTERNAL_SERVER_ERROR if has_failed else HTTPStatus.NOT_FOUND
        return JSONResponse({"error": str(error)}, status, {"Cache-Control": "no-store"})
    response.headers.update(headers)
    return response


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


@_recorded
def hotspots(lake: Lake, slide_id: str, request: Request) -> Response:
    """The hotspots as a file for QuPath."""
    model = _model(lake, slide_id, request)
    found = slides.hotspots(lake, slide_id, model["model_id"], _patch_set(model, request))
    about = {name: model[name] for name in ("model_id", "encoder_id", "patch_set")}
    about |= {"slide_id": slide_id, "table_versions": slides.versions(lake)}
    _record_export(lake, slide_id, "hotspots.geojson", model["model_id"], request)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hotspots.geojson"
        export.write_hotspots(file, found, model["model_id"], about)
        content = file.read_bytes()
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in slide_id)
    attachment = {"Content-Disposition": f'attachment; filename="{name.encode("ascii", "replace").decode()}.geojson"'}
    return Response(content, media_type="application/geo+json", headers=attachment)


@_recorded
def saving(lake: Lake, slide_id: str, request: Request) -> Response:
    """Nothing but that the view of the slide may be saved: the browser draws it, once this is recorded."""
    slides.slide(lake, slide_id)
    _record_export(lake, slide_id, "view.png", request.query_params.get("model"), request)
    return Response(status_code=204)


def _record_export(lake: Lake, slide_id: str, file: str, model_id: str | None, request: Request) -> None:
    deed = Deed(Action.exported, slide_id, file, {"runs": lake.version}, {"model_id": model_id})
    record(lake, deed, person_of(request))


def _lake(request: Request) -> Lake:
    told = request.query_params.get("version")
    if told is None:
        return newest_lake()
    version = version_number(told)
    if version is None:
        raise HistolakeError(f"version={shortened(told)}: must be a version of the ledger, a whole number")
    return Lake(str(lake_path()), version)


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
