"""The training set in shards that workers hold: this process knows label and score of every row, and no embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lake.heads import Head, Parameters
from lake.linear import Line
from lake.row_sums import JoinedSums, RowSums
from lake.selection import Rows, TrainingSet
from udfs.errors import ModelError


class Workers(Protocol):
    """Those that hold the shards, each one as a `Part`."""

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Have each worker's Part do what the method's name says; returns their answers in the shards' order.

        arguments: for each worker its own.
        """

    def keep(self, value: Any) -> Any:
        """Something that stands for the value among the arguments of `ask`, and is sent to workers once."""

    def networks(self, data: ShardedSet, rows: Rows, held: Rows, candidates: Sequence[Parameters]) -> Iterator[Any]:
        """The deep head's networks for the candidates, fitted by the workers together; see `Labelled.fits`."""


@dataclass(frozen=True)
class Part:
    """What a worker does with its shard."""

    data: TrainingSet

    def known(self) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.bool_], NDArray[np.float32]]:
        """Labels, slides, whether for validation, and the example: all but the embeddings."""
        return self.data.y, self.data.slides, self.data.is_validation, self.data.example

    def sums(self, rows: Rows, method: str, *arguments: Any) -> Any:
        """What the method of `RowSums` makes of these rows."""
        return getattr(RowSums(self.data.x, self.data.y, rows), method)(*arguments)

    def probability(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """Of tumor in these rows."""
        return self.data.probability(estimator, rows)

    def log_odds(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """Of tumor in these rows."""
        return self.data.log_odds(estimator, rows)

    def sum_bits(self, line: Line) -> int:
        """See `Labelled`."""
        return self.data.sum_bits(line)


@dataclass(frozen=True)
class ShardedSet:
    """A `Labelled` set whose embeddings are with workers. Rows are numbered through, shard after shard."""

    workers: Workers
    y: NDArray[np.int64]
    slides: NDArray[np.str_]
    is_validation: NDArray[np.bool_]
    example: NDArray[np.float32]
    starts: NDArray[np.int64]  # number of the first row of each shard

    @classmethod
    def of(cls, workers: Workers, count: int) -> ShardedSet:
        """What `count` workers hold."""
        labels, slides, sides, examples = zip(*workers.ask("known", [()] * count), strict=True)
        starts = np.cumsum([0, *(len(each) for each in labels)])[:-1]
        example = np.concatenate(examples)[:2]
        return cls(workers, np.concatenate(labels), np.concatenate(slides), np.concatenate(sides), example, starts)

    @property
    def dims(self) -> int:
        """See `Labelled`."""
        return int(self.example.shape[1])

    @property
    def shards(self) -> int:
        """See `Labelled`."""
        return len(self.starts)

    def parts(self, rows: Rows) -> list[Rows]:
        """The rows of each shard, which ascend, by their numbers in the shard."""
        ends = np.searchsorted(rows, self.starts[1:])
        return [each - start for each, start in zip(np.split(rows, ends), self.starts, strict=True)]

    def sums(self, rows: Rows) -> JoinedSums:
        """Sums over these rows."""
        kept = [self.workers.keep(each) for each in self.parts(rows)]

        def ask(method: str, *arguments: Any) -> list[Any]:
            return self.workers.ask("sums", [(each, method, *arguments) for each in kept])

        return JoinedSums(ask)

    def probability(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """See `Labelled`."""
        return self._scores("probability", estimator, rows)

    def log_odds(self, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        """See `Labelled`."""
        return self._scores("log_odds", estimator, rows)

    def _scores(self, method: str, estimator: Any, rows: Rows) -> NDArray[np.float64]:
        kept = self.workers.keep(estimator)
        return np.concatenate(self.workers.ask(method, [(kept, each) for each in self.parts(rows)]))

    def sum_bits(self, line: Line) -> int:
        """See `Labelled`."""
        return int(max(self.workers.ask("sum_bits", [(line,)] * self.shards)))

    def fits(self, head: Head, rows: Rows, held: Rows, candidates: Sequence[Parameters]) -> Iterator[Any]:
        """See `Labelled`. Raises ModelError for a head that is fitted in one process."""
        if head.name == "deep":
            return self.workers.networks(self, rows, held, candidates)
        if head.over is None:
            raise ModelError(f"--head {head.name} is fitted in one process: leave --engine ray out, or train another")
        return head.over(self.sums(rows), candidates)


@dataclass(frozen=True)
class Here:
    """The `Workers` of shards that this process holds: it sums as workers elsewhere do, to the last bit."""

    parts: Sequence[Part]

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """See `Workers`."""
        return [getattr(part, method)(*each) for part, each in zip(self.parts, arguments, strict=True)]

    def keep(self, value: Any) -> Any:
        """See `Workers`."""
        return value

    def networks(self, data: ShardedSet, rows: Rows, held: Rows, candidates: Sequence[Parameters]) -> Iterator[Any]:
        """Raises ModelError: gradients are added up by processes of their own."""
        raise ModelError(
            f"the network was fitted by {data.shards} workers together, whose sums are rounded in another order than "
            f"those of one: `histolake train --engine ray --workers {data.shards}` fits it again"
        )


def held_here(parts: Sequence[TrainingSet]) -> ShardedSet:
    """The shards as one set, in this process."""
    return ShardedSet.of(Here([Part(each) for each in parts]), len(parts))
