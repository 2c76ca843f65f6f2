"""Answers with deep-zoom tiles and thumbnails of the lake's slides, JPEG; errors as JSON, {"error": a sentence}."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import Callable

from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lake import session
from lake.scans import Scan, find_scan
from udfs.deep_zoom import read_thumbnail, read_tile
from udfs.errors import HistolakeError, TileError
from udfs.slide import Area, FileState, Pixels, file_state
from viewer.pictures import Pictures

JPEG_QUALITY = 85
THUMBNAIL_PX = 256  # of the longer side
WORKERS = max(2, min(8, os.cpu_count() or 2))  # pictures read and encoded at a time
KEPT_BYTES = 128 * 2**20  # of encoded pictures: some 10,000 tiles
NOT_FOUND, FAILED = 404, 500
NOBODY_WAITS = 499  # the client closed the connection: nobody sees this status

_pictures = Pictures(WORKERS, KEPT_BYTES)


async def tile(request: Request) -> Response:
    """A tile of the slide's pyramid, see udfs.deep_zoom; path parameters slide_id, level, column, row."""
    level, column, row = (request.path_params[name] for name in ("level", "column", "row"))
    return await _answer(request, lambda path, whole: read_tile(path, whole, level, column, row))


async def thumbnail(request: Request) -> Response:
    """The whole slide, its longer side THUMBNAIL_PX at most; path parameter slide_id."""
    return await _answer(request, lambda path, whole: read_thumbnail(path, whole, THUMBNAIL_PX))


async def _answer(request: Request, read: Callable[[str, Area], Pixels]) -> Response:
    slide_id = request.path_params["slide_id"]
    try:
        scan = await asyncio.to_thread(find_scan, session.lake_path(), slide_id)
    except HistolakeError as error:
        return _refusal(FAILED, str(error))
    if scan is None:
        return _refusal(NOT_FOUND, f"no slide {slide_id!r} in the lake; the worklist shows those that it has")
    if scan.area is None:
        return _refusal(FAILED, f"slide {slide_id} cannot be shown: {scan.error}")
    try:
        state = await asyncio.to_thread(file_state, scan.path)
    except HistolakeError as error:
        return _refusal(NOT_FOUND, f"{error} Put it back, or `histolake ingest` it where it is now.")
    return await _picture(request, scan.path, scan.area, _tag(scan, state), read)


async def _picture(request: Request, path: str, whole: Area, tag: str, read: Callable[[str, Area], Pixels]) -> Response:
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}  # kept by the browser, which asks whether it changed
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    try:
        jpeg = await _pictures.get((tag, request.url.path), lambda: _jpeg(read(path, whole)), request.is_disconnected)
    except HistolakeError as error:
        status = NOT_FOUND if isinstance(error, TileError) else FAILED
        return _refusal(status, f"slide {request.path_params['slide_id']}: {error}")
    if jpeg is None:
        return Response(status_code=NOBODY_WAITS)
    return Response(jpeg, media_type="image/jpeg", headers=headers)


def _tag(scan: Scan, state: FileState) -> str:
    """What changes with everything that a slide's pictures follow from: its row in the lake, and its file."""
    return f'"{hashlib.sha256(repr((scan, state)).encode(errors="surrogateescape")).hexdigest()[:24]}"'


def _jpeg(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _refusal(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers={"Cache-Control": "no-store"})
