"""What every request to the app's server passes through."""

from __future__ import annotations

import socket

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send


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


MIDDLEWARE = [Middleware(SendsAtOnce)]
