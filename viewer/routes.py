"""What the app's server answers besides its pages, to whom a page gave a token for the slide."""

from __future__ import annotations

import asyncio

from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from udfs.errors import HistolakeError
from viewer import grids, tiles, tokens
from viewer.login import login
from viewer.person import person_of
from viewer.roles import status

HEADER = "Histolake-Token"  # or `token` in the query, for pictures and links, which send no headers


class AsksForToken:
    """Lets a request through to a slide's route when its person has a token for it; see viewer.tokens.

    Where nobody logs in a token would say nothing, and none is asked for.
    """

    def __init__(self, app: ASGIApp, kind: tokens.Kind) -> None:
        self._app = app
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or deny it."""
        request = Request(scope, receive)
        try:
            await asyncio.to_thread(self._check, request)  # it may read the lake
        except HistolakeError as error:
            answer = JSONResponse({"error": str(error)}, status(error), {"Cache-Control": "no-store"})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        who = person_of(request)
        if login() is not None:
            given = request.headers.get(HEADER) or request.query_params.get("token")
            tokens.check(who.subject, self._kind, request.path_params["slide_id"], given)


SLIDE = [Middleware(AsksForToken, kind="slide")]
THUMBNAIL = [Middleware(AsksForToken, kind="thumbnail")]


class Short(IntegerConvertor):
    """A whole number of few digits: Python refuses to read those of thousands."""

    regex = "[0-9]{1,9}"


register_url_convertor("short", Short())

ROUTES = [
    Route(
        "/histolake/tiles/{slide_id:path}/{level:short}/{column:short}_{row:short}.jpeg", tiles.tile, middleware=SLIDE
    ),
    Route("/histolake/thumbnails/{slide_id:path}.jpeg", tiles.thumbnail, middleware=THUMBNAIL),
    Route("/histolake/heatmaps/{slide_id:path}", grids.heatmap, middleware=SLIDE),
    Route("/histolake/outcomes/{slide_id:path}", grids.outcomes, middleware=SLIDE),
    Route("/histolake/annotations/{slide_id:path}", grids.outlines, middleware=SLIDE),
    Route("/histolake/hotspots/{slide_id:path}", grids.hotspots, middleware=SLIDE),
    Route("/histolake/saving/{slide_id:path}", grids.saving, methods=["POST"], middleware=SLIDE),
]
