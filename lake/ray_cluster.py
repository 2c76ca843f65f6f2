"""Units of work on a Ray cluster: a slide is a task, and each worker commits what it computes.

Workers are actors, for what they open is dear: an encoder, a session. Each is given one task at a time, so that as
many are under way as there are workers and the others wait here. A worker that dies, or its node, takes nothing with
it: what it has not reported as committed is given to another, each unit for itself, and a unit that was committed
all the same is then replaced by equal rows.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import duckdb
import ray
from ray.exceptions import RayError, RayTaskError

from lake import encoder_cache, session, store
from lake.ray_worker import RayWorker, Shipped
from lake.units import Outcome, Result, Unit
from lake.worker import Job
from udfs.errors import EncoderError, HistolakeError, KeyFileError, ModelError, StorageError
from udfs.registry import rows_seen

TASK_UNITS = 4  # of a large slide in one task, 32,768 patches
CALLS = 3  # of a worker at once: its work, `seen` and `stop`
ATTEMPTS = 4  # at a unit whose worker dies each time
WAIT_SECONDS = 1.0  # after which progress is asked for
STAFF_SECONDS = 5.0  # after which nodes that have joined are noticed
STOP_SECONDS = 20.0  # that workers have for committing what is done when the run is stopped

ACTOR = ray.remote(RayWorker)


@dataclass(frozen=True)
class Resources:
    """What each worker is given: CPUs, and GPUs or a fraction of one."""

    cpus: int = 1
    gpus: float = 0.0

    def places(self) -> int:
        """Workers that the nodes of the cluster have room for. Raises HistolakeError when there is none."""
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        found: int = sum(min(self._fit(node["Resources"])) for node in nodes if node["Alive"])
        if not found:
            wanted = f"{self.cpus} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
            raise HistolakeError(f"--engine ray: no node of the cluster has {wanted} for a worker; ask for less")
        return found

    def _fit(self, node: Mapping[str, float]) -> Iterator[int]:
        for name, needed in (("CPU", self.cpus), ("GPU", self.gpus)):
            if needed:
                yield int(node.get(name, 0.0) / needed + 1e-9)


@dataclass(frozen=True)
class Task:
    """Units for one call of a worker, and which attempt it is."""

    units: Sequence[Unit]
    attempt: int = 1


@dataclass(eq=False)
class Seat:
    """A worker, and what it was given and has not reported as committed: units and which attempt it is."""

    actor: Any
    is_open: bool = False  # for the stage that runs
    pending: dict[Unit, int] = field(default_factory=dict)


class Cluster:
    """An executor whose workers are kept from one stage to the next."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._seats: list[Seat] = []

    def __call__(self, job: Job, con: duckdb.DuckDBPyConnection, units: Sequence[Unit]) -> Generator[Outcome]:
        """Do the units on the cluster; yields what has become of them as it is committed.

        Raises HistolakeError when workers cannot start, or what is wrong is no unit's fault.
        """
        run = _Run(job, _ship(job, con), self._resources, self._seats, tasks(units, self._resources.places()))
        try:
            yield from run.outcomes()
        finally:
            run.stop()


def _ship(job: Job, con: duckdb.DuckDBPyConnection) -> Shipped:
    """Put into Ray's object store what workers need for the job."""
    encoder_id = job.parameters.get("encoder_id") if job.stage.embeds else None
    found = con.execute("select sha256 from encoders where encoder_id = $id", {"id": encoder_id}).fetchall()
    reference = ray.put(job)
    for (sha256,) in found:
        file = session.encoder_file(job.root, sha256)
        if file.is_file():
            return Shipped(store.CODE_VERSION, reference, sha256, ray.put(encoder_cache.read(file)))
    return Shipped(store.CODE_VERSION, reference, None, None)


def tasks(units: Sequence[Unit], workers: int) -> Iterator[Task]:
    """The units of each slide together; those of a large one in ranges, shorter when there is little to share out."""
    most = max(1, min(TASK_UNITS, len(units) // (4 * workers)))
    for _, group in itertools.groupby(units, lambda unit: (unit.slide_id, unit.identity)):
        of_slide = list(group)
        for start in range(0, len(of_slide), most):
            yield Task(of_slide[start : start + most])


class _Run:
    """A stage on the cluster."""

    def __init__(
        self, job: Job, shipped: Shipped, resources: Resources, seats: list[Seat], waiting: Iterable[Task]
    ) -> None:
        self._job, self._shipped, self._resources, self._seats = job, shipped, resources, seats
        self._waiting = deque(waiting)
        self._idle = [*seats]
        self._busy: dict[ray.ObjectRef[list[Outcome]], Seat] = {}
        self._counts: list[ray.ObjectRef[Mapping[str, int]]] = []
        self._failed_starts = 0
        self._counted = self._staffed = 0.0
        for seat in seats:
            seat.is_open = False

    def outcomes(self) -> Iterator[Outcome]:
        """What becomes of the units, as it is committed."""
        while self._waiting or any(seat.pending for seat in self._seats):
            self._staff()
            self._count()
            done, _ = ray.wait([*self._busy], timeout=WAIT_SECONDS)
            for reference in done:
                seat = self._busy.pop(reference)
                try:
                    committed = ray.get(reference)
                except RayError as error:
                    yield from self._lose(seat, error)
                    continue
                seat.is_open, self._failed_starts = True, 0
                for outcome in committed:
                    del seat.pending[outcome.unit]
                self._give(seat)
                yield from committed

    def _staff(self) -> None:
        """Have as many workers at work as there are tasks for, and room in the cluster."""
        while self._waiting and self._idle:
            self._give(self._idle.pop())
        if self._busy and time.monotonic() - self._staffed < STAFF_SECONDS:
            return
        self._staffed = time.monotonic()
        room = self._resources.places() - len(self._seats)
        for _ in range(min(len(self._waiting), max(room, 0 if self._busy else 1))):
            options = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus, "max_concurrency": CALLS}
            seat = Seat(ACTOR.options(**options).remote(self._resources.cpus))
            self._seats.append(seat)
            self._give(seat)

    def _give(self, seat: Seat) -> None:
        """Have the worker do the next thing that there is for it."""
        if not seat.is_open:
            call = seat.actor.open.remote(self._shipped)
        elif self._waiting:
            task = self._waiting.popleft()
            seat.pending |= dict.fromkeys(task.units, task.attempt)
            call = seat.actor.do.remote(task.units, at_once=task.attempt > 1)
        elif seat.pending:
            call = seat.actor.flush.remote()
        else:
            self._idle.append(seat)
            return
        self._busy[call] = seat

    def _lose(self, seat: Seat, error: RayError) -> Iterator[Outcome]:
        """Give what the worker has not committed to others, unit by unit; what failed too often has failed."""
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, EncoderError | ModelError | KeyFileError):
            raise cause
        self._dismiss(seat)
        if not seat.is_open:
            self._failed_starts += 1
            if isinstance(cause, HistolakeError) and not isinstance(cause, StorageError):
                raise cause
            if self._failed_starts >= ATTEMPTS and not any(other.is_open for other in self._seats):
                raise cause if isinstance(cause, StorageError) else HistolakeError(_why_no_worker(cause)) from cause
        for unit, attempt in seat.pending.items():
            if attempt < ATTEMPTS:
                self._waiting.append(Task([unit], attempt + 1))
            elif isinstance(error, RayTaskError):
                raise cause
            else:
                reason = f"its worker died {ATTEMPTS} times, for want of memory perhaps ({_first_line(cause)})"
                committer = self._job.committer()
                yield from [*committer.add(Result(unit, None, 0, reason, 0.0)), *committer.flush()]

    def _count(self) -> None:
        """Add what workers have counted to this process's counts, and ask them again."""
        if time.monotonic() - self._counted < WAIT_SECONDS:
            return
        self._counted = time.monotonic()
        if self._counts:
            answered, _ = ray.wait(self._counts, num_returns=len(self._counts), timeout=0)
            for answer in answered:
                with suppress(RayError):  # its worker has died, which is noticed elsewhere
                    rows_seen.update(ray.get(answer))
        self._counts = [seat.actor.seen.remote() for seat in self._busy.values() if seat.is_open]

    def stop(self) -> None:
        """Of a run that is left early: workers commit what is done, and go."""
        working = {call: seat for call, seat in self._busy.items() if seat.pending}
        for seat in working.values():
            seat.actor.stop.remote()
        if working:
            ray.wait([*working], num_returns=len(working), timeout=STOP_SECONDS)
        for seat in self._busy.values():
            self._dismiss(seat)

    def _dismiss(self, seat: Seat) -> None:
        self._seats.remove(seat)
        ray.kill(seat.actor)


def _why_no_worker(cause: Exception) -> str:
    """In one sentence, for workers that die before they have done anything."""
    if "No module named" in str(cause):
        return "--engine ray: histolake is not installed on the cluster's nodes; install it there, in the same version"
    return f"--engine ray: workers do not start: {_first_line(cause)}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
