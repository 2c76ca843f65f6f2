"""What every request to the app's server passes through."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from udfs.errors import HistolakeError
from viewer import roles, sessions
from viewer.login import HOW, Login, login
from viewer.person import person_of
from viewer.roles import is_loopback

DENIED, FAILED, POLICY = 403, 500, 1008  # the last closes a WebSocket
FILES = "/media/"  # where Streamlit keeps pictures and downloads of pages, for whoever knows their names


class SendsAtOnce:
    """Has the server send every part of an answer at once.

    Streamlit binds its socket without naming TCP, and asyncio then leaves Nagle's algorithm on: an answer's body waits
    until the browser has acknowledged its headers, 40 ms for every tile. With a server other than uvicorn, which
    alone shows its connection, nothing changes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, over a connection that keeps nothing back."""
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        connection = transport.get_extra_info("socket") if transport else None
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self._app(scope, receive, send)


class LetsIn:
    """Lets in, where nobody logs in, this machine alone; where people do, only them to what pages have shown.

    A name other than this machine's own may be any web site's, which a browser here would then show the app to.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or deny it."""
        if scope["type"] in ("http", "websocket"):
            try:
                await _check(HTTPConnection(scope))
            except HistolakeError as error:
                status = DENIED if isinstance(error, roles.DeniedError) else FAILED
                answer: ASGIApp = (
                    PlainTextResponse(f"{error}\n", status, {"Cache-Control": "no-store"})
                    if scope["type"] == "http"
                    else WebSocketClose(POLICY)
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


class KeepsSessions:
    """Begins a login where an answer sets Streamlit's cookie, and ends it where one deletes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and look at the cookies of the answer."""
        limits = login() if scope["type"] == "http" else None
        if limits is None:
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if lines := headers.getlist("set-cookie"):
                    asked = HTTPConnection(scope).cookies
                    if await asyncio.to_thread(_has_logged_out, lines, asked, limits):  # it writes to the lake
                        headers["Clear-Site-Data"] = '"cache"'  # slides that the browser has kept
                    if limits.is_https:
                        del headers["set-cookie"]
                        for line in lines:
                            headers.append("set-cookie", f"{line}; Secure")
            await send(message)

        await self._app(scope, receive, sent)


def _has_logged_out(lines: list[str], asked: Mapping[str, str], limits: Login) -> bool:
    """Begin or end the login that an answer's cookies set or delete; asked: the cookies of the request."""
    given = SimpleCookie()
    for line in lines:
        given.load(line)
    if USER_COOKIE_NAME not in given:
        return False
    cookies = {name: each.value for name, each in given.items() if each.value}
    if USER_COOKIE_NAME in cookies:
        sessions.open_session(cookies, limits)
        return False
    sessions.end_session(asked)
    return True


async def _check(request: HTTPConnection) -> None:
    if login() is not None:
        if request.url.path.startswith(FILES):
            await asyncio.to_thread(person_of, request)  # it may read the lake
        return
    peer = request.client.host if request.client else None
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname
    if not (is_loopback(peer) and is_loopback(name)):
        why = f"nobody logs in here, so this app is for its own machine alone: {HOW}"
        await asyncio.to_thread(roles.deny, roles.NOBODY, f"ask for {request.url.path} from {peer}", why)


MIDDLEWARE = [Middleware(SendsAtOnce), Middleware(LetsIn), Middleware(KeepsSessions)]
