"""Where stages run: what is said of a cluster that is not there, and of an engine that is not installed."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from support import TestLake

from lake import engines

RUN = ("run", "--patch-px", "64", "--mpp", "1", "--encoder", "tiny")


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that takes connections and is no cluster: it answers in another language."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]


def refused(lake: TestLake, *words: str) -> str:
    """What a command says that must end with one line."""
    answer = lake(*RUN, *words)
    assert answer.status == 1
    [line] = answer.err.splitlines()
    return line


def test_ray_that_is_not_installed_is_told_how_to_be(lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "Ray is not installed here; install it: pip install '.[ray]'" in refused(lake, "--engine", "ray")


def test_an_address_where_nobody_answers_is_named(lake: TestLake) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = refused(lake, "--engine", "ray", "--address", f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}: no answer (" in said
    assert "as HOST:PORT" in said
    assert "no answer (" in refused(lake, "--engine", "ray", "--address", "127.0.0.1:port")


def test_what_answers_and_is_no_cluster_is_told_apart(
    lake: TestLake, mute: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(engines, "REACH_SECONDS", 2.0)
    assert "what answers there is no Ray" in refused(lake, "--engine", "ray", "--address", f"127.0.0.1:{mute}")


def test_what_only_a_cluster_understands_is_refused_without_one(lake: TestLake) -> None:
    for words in (("--address", "127.0.0.1:6379"), ("--gpus-per-worker", "1")):
        assert "add --engine ray" in refused(lake, *words)
