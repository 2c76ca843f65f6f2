"""What runs in each worker process of a Ray cluster: its own session, encoder and slides; it commits what it does."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import duckdb
import ray

from lake import encoder_cache, session
from lake.store import CODE_VERSION
from lake.units import Outcome, Unit
from lake.worker import Job, Worker
from udfs.errors import HistolakeError, LakeError
from udfs.registry import rows_seen


@dataclass(frozen=True)
class Shipped:
    """What the driver sends to its workers once for a stage: references to what Ray's object store holds.

    sha256: of the encoder that the stage calls; None when it calls none.
    """

    code_version: str
    job: ray.ObjectRef[Job]
    sha256: str | None
    encoder: ray.ObjectRef[encoder_cache.Files] | None


def refuse_other_version(code_version: str) -> str:
    """The node's address. Raises HistolakeError unless the driver's histolake is the one that is installed here."""
    node: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    if code_version != CODE_VERSION:
        raise HistolakeError(
            f"{node}: histolake {CODE_VERSION} is installed there, and {code_version} here; "
            "install the same version on every node"
        )
    return node


class RayWorker:
    """An actor. The driver gives it one call at a time, beside which it asks for `seen` and calls `stop`."""

    def __init__(self, cpus: int) -> None:
        os.environ["OMP_NUM_THREADS"] = str(cpus)  # what `cores` goes by
        self._worker: Worker | None = None
        self._told = Counter(rows_seen)

    def open(self, shipped: Shipped) -> list[Outcome]:
        """Get ready for a stage: a session on the driver's versions of the tables; an encoder that was sent.

        Raises HistolakeError naming the node when that cannot be.
        """
        node = refuse_other_version(shipped.code_version)
        if shipped.sha256 and shipped.encoder and not encoder_cache.cached(shipped.sha256):
            encoder_cache.keep(shipped.sha256, ray.get(shipped.encoder))
        job = ray.get(shipped.job)
        try:
            con = session.connect(job.root, at=job.versions)
        except LakeError as error:
            raise type(error)(f"{node}: {error}") from error
        for name, rows in job.inputs.items():
            con.from_arrow(rows).create(name)
        self._worker = Worker(job, con)
        return []

    def do(self, units: Sequence[Unit], *, at_once: bool) -> list[Outcome]:
        """Compute units; returns those, of earlier calls too, that are committed now. at_once: all are."""
        assert self._worker is not None  # noqa: S101 (the driver opens it first)
        committed: list[Outcome] = []
        try:
            with closing(self._worker.do(units)) as outcomes:
                committed += outcomes
        except duckdb.InterruptException:  # by `stop`
            at_once = True
        return committed + (self.flush() if at_once else [])

    def flush(self) -> list[Outcome]:
        """Commit what is computed; returns what that was."""
        assert self._worker is not None  # noqa: S101
        return self._worker.flush()

    def seen(self) -> Counter[str]:
        """Rows that each SQL function has been called with since this was asked last, for progress bars."""
        now = Counter(rows_seen)
        new, self._told = now - self._told, now
        return new

    def stop(self) -> None:
        """Have the call that is running end soon, with what it has computed committed."""
        if self._worker is not None:
            self._worker.interrupt()
