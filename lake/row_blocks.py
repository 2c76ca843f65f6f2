"""Rows in fixed blocks: several threads work at once, and a sum over the blocks comes out the same for any number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from udfs.processors import cores

T = TypeVar("T")
Block = TypeVar("Block")

ROWS = 512  # of 2,048 float32: 4 MB, which stay in a processor's cache while they are used twice


def blocks_of(rows: NDArray[np.int64], most: int = ROWS) -> list[slice]:
    """Row numbers, ascending, as slices of at most `most` neighbours: what they cut out of an array is no copy."""
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return [
        slice(int(run[first]), int(run[first]) + min(most, len(run) - first))
        for run in runs
        for first in range(0, len(run), most)
    ]


def each(work: Callable[[Block], T], blocks: Sequence[Block]) -> Iterator[T]:
    """What `work` makes of every block, in order; the processor's cores share them.

    `work` should call BLAS with one thread: `learn` sees to that.
    """
    with ThreadPoolExecutor(cores(), thread_name_prefix="rows") as pool:
        yield from pool.map(work, blocks)
