"""Where stages run: in this process, or on a Ray cluster that this process connects to."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lake.choices import Engine, EngineName
from udfs.errors import HistolakeError

if TYPE_CHECKING:
    from lake.training_rows import Reader
    from lake.worker import Executor

HERE = "local"  # Ray's word for a cluster that is started on this machine, and ends with this process
REACH_SECONDS = 10.0
PORT = 6379  # of a head node, where the address names none
REMEDY = "name the head node as HOST:PORT, as `ray status` there knows it"

# how both sides of an HTTP/2 connection, as gRPC's are, begin: RFC 9113, 3.4
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS


@contextmanager
def executor(engine: Engine) -> Iterator[Executor]:
    """What computes the units of stages while the block runs.

    Raises HistolakeError when Ray is asked for and is not installed, or its cluster cannot be reached or is of
    another version.
    """
    if engine.name is EngineName.local:
        _refuse_workers(engine)
        from lake.worker import local

        yield local
        return
    with _joined(engine):
        from lake.ray_cluster import Cluster, Resources

        yield Cluster(Resources(engine.cpus_per_worker, engine.gpus_per_worker))


@contextmanager
def reader(engine: Engine, workers: int | None) -> Iterator[Reader]:
    """What reads training sets while the block runs: whole, or in shards of so many workers of a Ray cluster at most.

    Raises HistolakeError as `executor` does.
    """
    if engine.name is EngineName.local:
        _refuse_workers(engine, workers)
        from lake.training_rows import whole

        yield whole
        return
    with _joined(engine):
        from lake.ray_cluster import Resources
        from lake.ray_shards import ShardedReader

        yield ShardedReader(Resources(engine.cpus_per_worker), workers)


def _refuse_workers(engine: Engine, workers: int | None = None) -> None:
    """Raise HistolakeError when something is asked of workers, and there are none."""
    if workers or engine != Engine(engine.name):
        told = "--address, --workers, --cpus-per-worker and --gpus-per-worker"
        raise HistolakeError(f"{told} are for workers of a cluster: add --engine ray")


@contextmanager
def _joined(engine: Engine) -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise HistolakeError("--engine ray: Ray is not installed: pip install --editable '.[ray]'") from None
    _join(engine.address or os.environ.get("RAY_ADDRESS") or HERE)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    import ray

    if address not in (HERE, "auto") and "://" not in address:
        _reach(address)
    of_our_own = {"include_dashboard": False} if address == HERE else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **of_our_own)  # type: ignore[arg-type]
    except Exception as error:  # Ray raises that itself, besides its own, RuntimeError, ConnectionError …
        why = " ".join(str(error).split())
        raise HistolakeError(f"--engine ray: no cluster at {address}: {why}") from error


def _reach(address: str) -> None:
    """Raise HistolakeError unless a gRPC server answers there: Ray itself would go on trying without an end."""
    host, _, port = address.partition(":")
    try:
        with socket.create_connection((host, int(port or PORT)), REACH_SECONDS) as connection:
            connection.sendall(GREETING)
            answer = connection.recv(len(SETTINGS), socket.MSG_WAITALL)
    except (OSError, ValueError) as error:
        raise HistolakeError(f"--address {address}: no answer ({error}); {REMEDY}") from error
    if answer[3:4] != SETTINGS[3:4]:
        raise HistolakeError(f"--address {address}: what answers there is no Ray; {REMEDY}")
