"""Training on a Ray cluster: each worker holds a shard of the training set, which it reads from the lake itself.

Workers are actors that change nothing after they have read their shard. One that dies is started again, perhaps on
another node, reads the same versions of the tables, and is asked again: the sums come out the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import ray
from ray.exceptions import RayError, RayTaskError

from lake import session, store
from lake.heads import Parameters
from lake.ray_cluster import Resources
from lake.ray_worker import refuse_other_version
from lake.recipe import Recipe
from lake.selection import Rows
from lake.sharded_set import Part, ShardedSet
from lake.training_rows import Shard, shards, training_set
from udfs.errors import HistolakeError

RESTARTS = 4  # of a worker that dies


@dataclass(frozen=True)
class ShardedReader:
    """Reads training sets in shards: one for each worker that the cluster has room for, `most` at most."""

    resources: Resources
    most: int | None = None

    def __call__(self, con: duckdb.DuckDBPyConnection, root: Path, recipe: Recipe) -> ShardedSet | None:
        """The training set as the connection sees it; None where it has no row."""
        places = self.resources.places()
        found = shards(con, recipe, min(places, self.most or places))
        if not found:
            return None
        source = Source(root, session.versions(con), recipe, tuple(found), store.CODE_VERSION)
        return ShardedSet.of(RayWorkers(source, self.resources.cpus), len(found))


@dataclass(frozen=True)
class Source:
    """What a worker must know to read its shard. versions: of all tables, as the driver sees them."""

    root: Path
    versions: Mapping[str, int]
    recipe: Recipe
    shards: tuple[Shard, ...]
    code_version: str

    def part(self, number: int, cpus: int) -> Part:
        """The shard of that number, read in this process, which works with so many threads from now on.

        Raises HistolakeError when another histolake is installed here.
        """
        from threadpoolctl import threadpool_limits

        refuse_other_version(self.code_version)
        os.environ["OMP_NUM_THREADS"] = str(cpus)  # what `cores` goes by
        threadpool_limits(1, user_api="blas")  # as `learn` has it
        with session.connect(self.root, udfs=(), at=self.versions) as con:
            return Part(training_set(con, self.recipe, self.shards[number]))


class ShardWorker:
    """An actor with one shard, which it reads when it is asked first."""

    def __init__(self, source: Source, number: int, cpus: int) -> None:
        self._which = (source, number, cpus)
        self._part: Part | None = None

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the method of `Part` answers."""
        if self._part is None:
            source, number, cpus = self._which
            self._part = source.part(number, cpus)
        return getattr(self._part, method)(*arguments)


class RayWorkers:
    """The `Workers` of a sharded set: actors, started when they are asked."""

    def __init__(self, source: Source, cpus: int) -> None:
        self.source, self.cpus = source, cpus
        self._actors: list[Any] = []

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """See `Workers`. Raises HistolakeError for what a worker raised, or when workers die each time."""
        if not self._actors:
            how = {"num_cpus": self.cpus, "max_restarts": RESTARTS, "max_task_retries": RESTARTS}
            start = ray.remote(ShardWorker).options(**how).remote
            self._actors = [start(self.source, number, self.cpus) for number in range(len(self.source.shards))]
        calls = [actor.ask.remote(method, *each) for actor, each in zip(self._actors, arguments, strict=True)]
        try:
            return ray.get(calls)
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            if isinstance(cause, HistolakeError):
                raise cause from error
            why = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
            raise HistolakeError(f"training on --engine ray: a worker cannot go on: {why}") from error

    def keep(self, value: Any) -> Any:
        """See `Workers`."""
        return ray.put(value)

    def rest(self) -> None:
        """Let the workers go, with what they hold; they are started again when they are asked."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def networks(self, data: ShardedSet, rows: Rows, held: Rows, candidates: Sequence[Parameters]) -> Iterator[Any]:
        """See `Workers`."""
        from lake.ray_deep import networks

        moments = data.sums(rows).moments()
        self.rest()  # those that fit the network hold the shards instead, on the same CPUs
        yield from networks(self.source, self.cpus, moments, data.parts(rows), data.parts(held), candidates)
