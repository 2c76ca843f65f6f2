"""A web server for tests: serves a folder over a socket, by ranges, and misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class SlideServer:
    """What is served, how, and what was asked for."""

    folder: Path
    address: str = ""
    has_ranges: bool = True
    has_tags: bool = True
    tag: str = ""  # in place of the one that follows from the content
    cut_after: int | None = None  # bytes of a response's body, then the connection is closed,
    cuts: int = 10**6  # for so many responses of more bytes than that
    stall_after: int | None = None  # bytes, then nothing comes until `go_on` is set
    status: int = 0  # of every response, where not 0
    busy: int = 0  # so many responses are 503
    change_after: int | None = None  # bytes of a body, then the file is another
    claims: int = 0  # bytes more than it has that the server says the file has
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # name and Range
    sent: int = 0

    def wholes(self, name: str) -> list[str | None]:
        """Ranges of the requests for more than a sample of a file."""
        asked = [range_ for path, range_ in self.requests if path == name]
        return [range_ for range_ in asked if range_ is None or range_.endswith("-")]

    def url(self, name: str) -> str:
        """The address of a file."""
        return f"{self.address}/{name}"


@contextmanager
def serving(folder: Path) -> Iterator[SlideServer]:
    """Serve the folder on this machine until the block ends."""
    served = SlideServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            _answer(self, served)

        def do_HEAD(self) -> None:  # as object storage is asked; only ever refused
            _refuse(self, served.status)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # clients that went away
            pass

    server = Server(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, served: SlideServer) -> None:
    name, asked = unquote(request.path).lstrip("/"), request.headers.get("Range")
    served.requests.append((name, asked))
    file = served.folder / name
    if served.busy:
        served.busy -= 1
        return _refuse(request, 503)
    if served.status or not file.is_file():
        return _refuse(request, served.status or 404)
    content = file.read_bytes()
    stat = file.stat()
    tag = served.tag or f'"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{len(content):x}"'
    first, last, status = 0, len(content) - 1, 200
    is_same = request.headers.get("If-Range") in (None, tag)
    if asked and served.has_ranges and is_same:
        start, _, end = asked.removeprefix("bytes=").partition("-")
        first, last, status = int(start), min(int(end or last), last), 206
        if first >= len(content):
            return _refuse(request, 416)
    body = content[first : last + 1]
    request.send_response(status)
    if status == 206:
        request.send_header("Content-Range", f"bytes {first}-{last}/{len(content) + served.claims}")
    request.send_header("Content-Length", str(len(body) + (0 if status == 206 else served.claims)))
    if served.has_tags:
        request.send_header("ETag", tag)
    request.end_headers()
    request.close_connection = bool(served.claims)
    _send(request, served, file, body)


def _refuse(request: BaseHTTPRequestHandler, status: int) -> None:
    request.send_response(status)
    request.send_header("Content-Length", "0")
    request.end_headers()


def _send(request: BaseHTTPRequestHandler, served: SlideServer, file: Path, body: bytes) -> None:
    is_large = served.cut_after is not None and len(body) > served.cut_after and served.cuts > 0
    if is_large:
        served.cuts -= 1
        body, request.close_connection = body[: served.cut_after], True
    if served.stall_after is not None and len(body) > served.stall_after:
        request.wfile.write(body[: served.stall_after])
        request.wfile.flush()
        served.sent += served.stall_after
        served.go_on.wait(60)
        body = body[served.stall_after :]
    if served.change_after is not None and len(body) > served.change_after:
        request.wfile.write(body[: served.change_after])
        served.sent += served.change_after
        file.write_bytes(file.read_bytes()[::-1])
        served.change_after, request.close_connection = None, True
        return
    request.wfile.write(body)
    served.sent += len(body)
