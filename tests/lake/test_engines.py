"""Where stages run: what is said of a cluster that is not there, and of an engine that is not installed."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from support import TestLake

from lake import engines
from lake.units import Unit

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
    assert "Ray is not installed: pip install --editable '.[ray]'" in refused(lake, "--engine", "ray")


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
    for words in (("--address", "127.0.0.1:6379"), ("--cpus-per-worker", "2"), ("--gpus-per-worker", "1")):
        assert "add --engine ray" in refused(lake, *words)


def test_a_task_is_a_slide_or_a_range_of_a_large_one() -> None:
    ray_cluster = pytest.importorskip("lake.ray_cluster")
    parts = {"a": 1, "b": 9, "c": 2, "d": 1}
    units = [Unit(name, "{}", part, True, "f", 0, 8192) for name, count in parts.items() for part in range(count)]

    def tasks(workers: int) -> list[list[Unit]]:
        return [list(task.units) for task in ray_cluster.tasks(units, workers)]

    assert [[(unit.slide_id, unit.part) for unit in task] for task in tasks(1)] == [
        [("a", 0)],
        [("b", 0), ("b", 1), ("b", 2)],
        [("b", 3), ("b", 4), ("b", 5)],
        [("b", 6), ("b", 7), ("b", 8)],
        [("c", 0), ("c", 1)],
        [("d", 0)],
    ]
    assert [len(task) for task in tasks(100)] == [1] * len(units)  # little is shared out in small tasks
    for workers in (1, 3, 100):
        assert [unit for task in tasks(workers) for unit in task] == units
