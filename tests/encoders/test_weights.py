"""Fetching weights, from a server on this machine."""

import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from udfs.encoders.weights import WeightsFile, fetch
from udfs.errors import EncoderError

CONTENT = np.random.default_rng(5).bytes(300_000)
NAME = "weights.h5"


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; notes the ranges asked for; cuts the first answer after `cut` bytes."""

    content = CONTENT
    knows_ranges = True
    cut: int | None = None
    delay = 0.0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/mirror/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        time.sleep(self.server.delay)
        if self.path != f"/mirror/{NAME}":
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.knows_ranges else 0
        body = self.server.content[start:]
        if start >= len(self.server.content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            total = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut])
        self.server.cut = None

    def log_message(self, *_):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOLAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HISTOLAKE_WEIGHTS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server(cache):
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def weights(server, content=CONTENT):
    return WeightsFile(NAME, server.url, len(content), hashlib.md5(content).hexdigest())


def test_weights_are_downloaded_once(server, cache):
    path = fetch(weights(server))
    assert path.read_bytes() == CONTENT
    assert fetch(weights(server)) == path == cache / NAME
    assert server.asked == [None]


def test_a_download_goes_on_where_it_broke_off(server, cache):
    server.cut = 100_000
    with pytest.raises(EncoderError, match=r"of 300,000 bytes came from .*; run again to resume"):
        fetch(weights(server))
    held = (cache / f"{NAME}.part").stat().st_size
    assert 0 < held <= 100_000
    assert fetch(weights(server)).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={held}-"]
    assert not (cache / f"{NAME}.part").exists()


def test_a_server_without_ranges_sends_all_of_it_again(server, cache):
    server.knows_ranges = False
    cache.mkdir(parents=True)
    (cache / f"{NAME}.part").write_bytes(CONTENT[:1000])
    assert fetch(weights(server)).read_bytes() == CONTENT


def test_what_is_not_the_published_file_is_removed(server, cache):
    server.content = bytes(len(CONTENT))
    with pytest.raises(EncoderError, match=r"weights\.h5: what .* is not the published file.*HISTOLAKE_WEIGHTS"):
        fetch(weights(server))
    assert not list(cache.glob(f"{NAME}*[!k]"))
    server.content = CONTENT
    assert fetch(weights(server)).read_bytes() == CONTENT


def test_a_file_that_is_too_long_is_removed(server, cache):
    server.content = CONTENT + b"more"
    with pytest.raises(EncoderError, match="not the published file"):
        fetch(weights(server))
    assert not (cache / f"{NAME}.part").exists()


def test_a_part_longer_than_what_is_served_is_not_kept_for_ever(server, cache):
    server.content = CONTENT[:1000]
    cache.mkdir(parents=True)
    (cache / f"{NAME}.part").write_bytes(bytes(2000))
    with pytest.raises(EncoderError, match="the server answers 416"):
        fetch(weights(server))
    server.content = CONTENT
    assert fetch(weights(server)).read_bytes() == CONTENT


def test_a_missing_file_names_its_address_and_the_remedy(server, cache):
    lost = WeightsFile(NAME, server.url + "elsewhere/", 10, "")
    with pytest.raises(EncoderError, match=r"elsewhere/weights\.h5: the server answers 404 .*HISTOLAKE_WEIGHTS"):
        fetch(lost)


def test_offline_the_error_comes_soon_and_names_the_remedy(cache):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses connections
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        begun = time.monotonic()
        with pytest.raises(EncoderError, match=r"weights\.h5: out of reach; set HISTOLAKE_WEIGHTS to a folder"):
            fetch(WeightsFile(NAME, url, 10, ""))
    assert time.monotonic() - begun < 30


def test_a_folder_is_read_in_place(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOLAKE_WEIGHTS", str(tmp_path))
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(weights(server)) == tmp_path / NAME
    assert server.asked == []


def test_a_folder_without_the_file_is_named(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOLAKE_WEIGHTS", str(tmp_path))
    with pytest.raises(EncoderError, match=re.escape(f"{NAME}: not in the folder {tmp_path}")):
        fetch(weights(server))
    assert server.asked == []


def test_a_wrong_file_in_a_folder_is_refused_and_left_alone(server, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HISTOLAKE_WEIGHTS", str(tmp_path))
    (tmp_path / NAME).write_bytes(b"something else")
    with pytest.raises(EncoderError, match=r"weights\.h5: not the published weights"):
        fetch(weights(server))
    assert (tmp_path / NAME).read_bytes() == b"something else"


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(server, cache):
    cache.parent.touch()
    with pytest.raises(EncoderError, match=r"cache/weights: Not a directory; set HISTOLAKE_CACHE"):
        fetch(weights(server))


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_mirror_takes_the_place_of_the_address(ending, server, cache, monkeypatch):
    monkeypatch.setenv("HISTOLAKE_WEIGHTS", server.url.rstrip("/") + ending)
    published = WeightsFile(NAME, "http://203.0.113.1/", len(CONTENT), hashlib.md5(CONTENT).hexdigest())
    assert fetch(published).read_bytes() == CONTENT


def test_two_processes_at_once_download_it_once(server, cache):
    server.delay = 0.5
    code = f"from udfs.encoders.weights import *; print(fetch({weights(server)!r}))"
    run = [sys.executable, "-c", code]
    both = [subprocess.Popen(run, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert (cache / NAME).read_bytes() == CONTENT
    assert server.asked == [None]
