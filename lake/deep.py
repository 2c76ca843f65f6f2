"""The deep head: a multilayer perceptron on embeddings, fitted by PyTorch on one worker or on several alike.

Every batch is one of all fitted rows, drawn by the rows' numbers; each worker takes the rows of the batch that it
holds, and the gradients of all workers are added. So the number of workers changes what is computed by no more than
the rounding of sums.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake.network import Layer, Network, network
from lake.row_sums import Moments, RowSums
from udfs.errors import ModelError

WIDTHS = (256, 64)
BATCH = 512  # rows, as a mean: how many a batch has is drawn, too
PASS = 200  # batches of a pass over all rows, at most; with more rows than 512 times that, batches grow
RATE = 5e-4
DECAY = 0.1
AVERAGE = 0.99  # of the running mean over steps, whose weights are the result
REPORT = 100  # steps from one report of the loss, and one checkpoint, to the next
SEED = 0
CANDIDATES = tuple({"steps": steps} for steps in (100, 200, 400, 800, 1600, 3200))


@dataclass(frozen=True)
class Portion:
    """The rows of x (n, dims) and y (n,) that one worker fits; first: the number of the first among all workers'."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    rows: NDArray[np.int64]
    first: int = 0


def deep(
    x: NDArray[np.float32], y: NDArray[np.int64], rows: NDArray[np.int64], candidates: Sequence[Mapping[str, Any]]
) -> Iterator[Network]:
    """The network after so many steps as each candidate says: one training, that goes on from one to the next."""
    training = Training(Portion(x, y, rows), RowSums(x, y, rows).moments())
    losses: list[float] = []
    for parameters in candidates:
        while training.steps < parameters["steps"]:
            losses.append(training.fit(min(REPORT, parameters["steps"] - training.steps)))
        yield replace(training.network(), losses=tuple(losses))


def batches_of(count: int) -> int:
    """Batches that a pass over so many rows has."""
    return max(1, min(PASS, round(count / BATCH)))


def batch_numbers(a_pass: int, first: int, count: int, batches: int) -> NDArray[np.int64]:
    """In which batch of a pass each of `count` rows is, the first of which has number `first`.

    Philox counts in fours (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011), so that drawing for
    some of the rows gives what drawing for all does.
    """
    source = np.random.Philox(key=np.array([SEED, a_pass], np.uint64))
    source.advance(first // 4)
    drawn = np.random.Generator(source).random(first % 4 + count)[first % 4 :]
    return np.asarray(drawn * batches, np.int64)


class Training:
    """A network while it is fitted. wrap: what adds up the gradients of `workers`, and divides them by their number.

    moments: of the rows of all workers. Raises ModelError where PyTorch is not installed.
    """

    def __init__(
        self, portion: Portion, moments: Moments, workers: int = 1, wrap: Callable[[Any], Any] = lambda network: network
    ) -> None:
        self._torch = torch = pytorch()
        self._portion, self._moments, self._workers = portion, moments, workers
        self._count = int(moments.counts.sum())
        self._batches = batches_of(self._count)
        self._mean, self._scale = moments.mean.astype(np.float32), moments.scale.astype(np.float32)
        self._weights = (self._count / (2 * moments.counts)).astype(np.float32)
        torch.manual_seed(SEED)
        widths = (portion.x.shape[1], *WIDTHS, 1)
        layers = [part for sizes in itertools.pairwise(widths) for part in (torch.nn.Linear(*sizes), torch.nn.ReLU())]
        self._network = torch.nn.Sequential(*layers[:-1])
        self._mean_network = torch.optim.swa_utils.AveragedModel(
            self._network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE)
        )
        self._optimizer = torch.optim.AdamW(self._network.parameters(), lr=RATE, weight_decay=DECAY)
        self._fitted = wrap(self._network)
        self._rows_of = lru_cache(maxsize=1)(self._draw)
        self.steps = 0

    def fit(self, steps: int) -> float:
        """Do so many steps; returns the mean loss of this worker's rows over them, as a part of that of all rows."""
        torch = self._torch
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a sum over other threads would be rounded otherwise
        try:
            return math.fsum(self._step() for _ in range(steps)) / steps
        finally:
            torch.set_num_threads(threads)

    def _step(self) -> float:
        torch = self._torch
        rows = self._rows_of(self.steps // self._batches)[self.steps % self._batches]
        x = torch.from_numpy((self._portion.x[rows] - self._mean) / self._scale)
        y = self._portion.y[rows]
        odds = self._fitted(x).squeeze(1)
        truth, weights = torch.from_numpy(y.astype(np.float32)), torch.from_numpy(self._weights[y])
        lost = torch.nn.functional.binary_cross_entropy_with_logits(odds, truth, weights, reduction="sum")
        loss = lost * (self._batches / self._count)  # by the rows that a batch has as a mean
        self._optimizer.zero_grad()
        (loss * self._workers).backward()
        self._optimizer.step()
        self._mean_network.update_parameters(self._network)
        self.steps += 1
        return float(loss.detach())

    def _draw(self, a_pass: int) -> list[NDArray[np.int64]]:
        """The worker's rows of each batch of a pass."""
        rows = self._portion.rows
        numbers = batch_numbers(a_pass, self._portion.first, len(rows), self._batches)
        order = np.argsort(numbers, kind="stable")
        return np.split(rows[order], np.searchsorted(numbers[order], np.arange(1, self._batches)))

    def network(self) -> Network:
        """The mean network as it is now, with the intercept moved to the classes' real shares, as in `logistic`."""
        layers = [
            Layer(part.weight.detach().numpy().T.copy(), part.bias.detach().numpy().copy())
            for part in self._mean_network.module
            if hasattr(part, "weight")
        ]
        share = self._moments.counts[1] / self._count
        layers[-1] = replace(layers[-1], bias=(layers[-1].bias + np.log(share / (1 - share))).astype(np.float32))
        return network(self._mean, self._scale, layers)

    def state(self) -> dict[str, Any]:
        """All that going on takes, for `torch.save`."""
        parts = (self._network, self._mean_network, self._optimizer)
        return {"steps": self.steps, "parts": [part.state_dict() for part in parts]}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.steps = state["steps"]
        for part, held in zip((self._network, self._mean_network, self._optimizer), state["parts"], strict=True):
            part.load_state_dict(held)


def pytorch() -> Any:
    """PyTorch. Raises ModelError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise ModelError("--head deep is fitted by PyTorch, which is not installed here; `pip install torch`") from None
    return torch
