"""Visits the app's pages as a browser does: Streamlit runs a page's script for whoever speaks its protocol."""

from __future__ import annotations

import contextlib
import http.client

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

ANSWER_S = 120.0


def is_up(port: int) -> bool:
    """Whether the app on this port answers."""
    try:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as asked:
            asked.request("GET", "/_stcore/health")
            return asked.getresponse().status == 200
    except OSError:
        return False


def visitor(port: int) -> ClientConnection:
    """A browser's connection to the app: a session, until it is closed."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    return connect(address, subprotocols=["streamlit"], max_size=None)  # type: ignore[list-item]


def visit(session: ClientConnection, page: str, query: str = "") -> int:
    """Open a page in the session and wait for its end; returns how many messages came.

    Raises RuntimeError when the page shows an exception, TimeoutError when it does not end.
    """
    order = BackMsg()
    order.rerun_script.page_name, order.rerun_script.query_string = page, query
    session.send(order.SerializeToString())
    messages = 0
    while True:
        message = ForwardMsg.FromString(session.recv(ANSWER_S))
        messages += 1
        kind = message.WhichOneof("type")
        if kind == "script_finished":
            return messages
        if kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            raise RuntimeError(f"page {page!r}: {message.delta.new_element.exception.message}")
