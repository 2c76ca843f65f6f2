"""Answers with deep-zoom tiles and thumbnails of the lake's slides, JPEG; errors as JSON, {"error": a sentence}."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import Callable
from http import HTTPStatus
from weakref import WeakValueDictionary

from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lake.choices import lake_path
from lake.scans import find_scan
from udfs.deep_zoom import read_thumbnail, read_tile
from udfs.errors import HistolakeError, SlideError, TileError
from udfs.slide import Area, Pixels, file_state
from udfs.slide_cache import is_here
from viewer.person import is_active
from viewer.pictures import Pictures

JPEG: dict[str, int] = {"quality": 85, "subsampling": 0}  # stains differ in color: chroma at full resolution
THUMBNAIL_PX = 256  # of the longer side
OF_A_SLIDE = max(2, min(8, os.cpu_count() or 2))  # pictures of one slide that are read and encoded at a time
WORKERS = OF_A_SLIDE + 1  # and of all: one slide that hangs does not hold up the others
KEPT_BYTES = 128 * 2**20  # of encoded pictures: some 4,000 tiles
NOBODY_WAITS = 499  # the client closed the connection: nobody sees this status

_pictures = Pictures(WORKERS, KEPT_BYTES)
_turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
"""By slide, as long as somebody waits for a picture of it."""


class NotAtHandError(HistolakeError):
    """A slide that the lake does not have, or whose file is no longer, or not yet, where it is looked for."""


async def tile(request: Request) -> Response:
    """A tile of the slide's pyramid, see udfs.deep_zoom; path parameters slide_id, level, column, row."""
    is_active(request.cookies)  # a person moves the slide
    level, column, row = (request.path_params[name] for name in ("level", "column", "row"))
    return await _answer(request, lambda path, whole: read_tile(path, whole, level, column, row))


async def thumbnail(request: Request) -> Response:
    """The whole slide, its longer side THUMBNAIL_PX at most; path parameter slide_id."""
    return await _answer(request, lambda path, whole: read_thumbnail(path, whole, THUMBNAIL_PX))


async def _answer(request: Request, read: Callable[[str, Area], Pixels]) -> Response:
    slide_id = request.path_params["slide_id"]
    try:
        path, whole, tag = await asyncio.to_thread(_find, slide_id)
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}  # the browser keeps it, and asks if it changed
        if tag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        async with _turns.setdefault(slide_id, asyncio.Semaphore(OF_A_SLIDE)):
            jpeg = await _pictures.get(
                (tag, request.url.path), lambda: _jpeg(read(path, whole)), request.is_disconnected
            )
    except (TileError, NotAtHandError) as error:
        return _refusal(HTTPStatus.NOT_FOUND, f"slide {slide_id}: {error}")
    except HistolakeError as error:
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"slide {slide_id}: {error}")
    if jpeg is None:
        return Response(status_code=NOBODY_WAITS)
    return Response(jpeg, media_type="image/jpeg", headers=headers)


def _find(slide_id: str) -> tuple[str, Area, str]:
    """The slide's file and scanned area, and the tag of its pictures: another when anything behind them changes."""
    scan = find_scan(lake_path(), slide_id)
    if scan is None:
        raise NotAtHandError("not in the lake; the worklist shows those that are")
    if scan.area is None:
        raise SlideError(f"cannot be shown: {scan.error}")
    if not is_here(scan.path):  # a worklist full of thumbnails would fetch every slide whole
        raise NotAtHandError("is on a server, and not on this machine yet; opening it in the viewer fetches it")
    try:
        state = file_state(scan.path)
    except SlideError as error:
        raise NotAtHandError(f"{error} Put it back, or `histolake ingest` it where it is now.") from None
    digest = hashlib.sha256(repr((scan, state)).encode(errors="surrogateescape")).hexdigest()
    return scan.path, scan.area, f'"{digest[:24]}"'


def _jpeg(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **JPEG)
    return buffer.getvalue()


def _refusal(status: HTTPStatus, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers={"Cache-Control": "no-store"})
