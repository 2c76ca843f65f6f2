"""What every request to the app's server passes through."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from udfs.errors import HistolakeError
from viewer import roles, sessions
from viewer.login import ALONE, Login, login
from viewer.person import person_of
from viewer.roles import is_loopback

POLICY = 1008  # what a WebSocket is closed with
UPLOADS, OURS = "/_stcore/upload_file", "/histolake/"
ASKS_FOR_LOGIN = ("/media/", "/_stcore/metrics")  # pages' pictures and downloads by their names, and who is here
RELAYED = ("forwarded", "x-forwarded-", "x-real-ip", "via")  # headers that a proxy adds begin so
UNHEARD = ("clear_cache", "load_git_info")  # which clears everybody's, and tells names of files, whoever asks


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

    A name other than this machine's own may be any web site's, which a browser here would then show the app to. Behind
    a proxy everybody looks as if they came from this machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or deny it."""
        if scope["type"] in ("http", "websocket"):
            try:
                await _check(HTTPConnection(scope))
            except HistolakeError as error:
                answer: ASGIApp = (
                    PlainTextResponse(f"{error}\n", roles.status(error), {"Cache-Control": "no-store"})
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


class HearsPages:
    """Hears of a WebSocket what pages say, and not what Streamlit would do for anybody who speaks to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand on a WebSocket's messages."""

        async def heard() -> Message:
            while _is_unheard(message := await receive()):
                pass
            return message

        await self._app(scope, heard if scope["type"] == "websocket" else receive, send)


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
    path, peer = request.url.path, request.client.host if request.client else None
    if why := _refusal(path, peer, request.headers):
        await asyncio.to_thread(roles.deny, roles.NOBODY, f"ask for {path} from {peer}", why)
    if login() is not None and path.startswith(ASKS_FOR_LOGIN):
        await asyncio.to_thread(person_of, request)  # it may read the lake


def _refusal(path: str, peer: str | None, headers: Headers) -> str | None:
    """Why a request is refused, whoever asks; None when it is not."""
    if login() is None:
        name = urlsplit(f"//{headers.get('host', '')}").hostname
        is_relayed = any(header.startswith(RELAYED) for header in headers)
        if is_relayed or not (is_loopback(peer) and is_loopback(name)):
            return ALONE
    if path.startswith(UPLOADS):
        return "no page of this app takes files"
    if path.startswith(OURS) and not _is_of_own_page(headers):
        return "this is for pages of this app, and another site's page asked for it"
    return None


def _is_of_own_page(headers: Headers) -> bool:
    """Whether a page of this app, a person or a program asks: browsers tell which site's page has them ask."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _is_unheard(message: Message) -> bool:
    with suppress(DecodeError):  # Streamlit answers that
        return BackMsg.FromString(message.get("bytes") or b"").WhichOneof("type") in UNHEARD
    return False


MIDDLEWARE = [Middleware(SendsAtOnce), Middleware(LetsIn), Middleware(KeepsSessions), Middleware(HearsPages)]
