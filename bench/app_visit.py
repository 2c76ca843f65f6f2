"""Visits the app's pages as a browser does: Streamlit runs a page's script for whoever speaks its protocol."""

from __future__ import annotations

import contextlib
import http.client
import time

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

ANSWER_S = 120.0  # for a page, or whatever else is asked for, on a machine that is as busy as this


def is_up(port: int) -> bool:
    """Whether the app on this port answers."""
    try:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as asked:
            asked.request("GET", "/_stcore/health")
            return asked.getresponse().status == 200
    except OSError:
        return False


def visitor(port: int) -> ClientConnection:
    """A browser's connection to the app: a session, until it is closed. Like a browser it sends no pings."""
    address, protocols = f"ws://127.0.0.1:{port}/_stcore/stream", ["streamlit"]
    return connect(address, subprotocols=protocols, max_size=None, open_timeout=ANSWER_S, ping_interval=None)  # type: ignore[arg-type]


def visit(session: ClientConnection, page: str, query: str = "") -> int:
    """Open a page in the session and wait for its end; returns how many messages came.

    Raises RuntimeError when the page shows an exception, TimeoutError when it does not end.
    """
    order = BackMsg()
    order.rerun_script.page_name, order.rerun_script.query_string = page, query
    session.send(order.SerializeToString())
    messages, deadline = 0, time.monotonic() + ANSWER_S
    while True:
        message = ForwardMsg.FromString(session.recv(max(0.0, deadline - time.monotonic())))
        messages += 1
        kind = message.WhichOneof("type")
        if kind == "script_finished":
            return messages
        if kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            raise RuntimeError(f"page {page!r}: {message.delta.new_element.exception.message}")
