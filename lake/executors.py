"""Where units of work are computed: in this process, one after another or several side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local(
    work: Callable[[Unit], Result], units: Iterable[Unit], side_by_side: int, interrupt: Callable[[], None]
) -> Iterator[Result]:
    """Apply `work` to every unit in this process; yields results as they come.

    side_by_side: units computed at once. Only as many more are started as results are taken, so
    that waiting results do not fill the memory. Leaving the loop early starts no further unit, and
    calls `interrupt`, which shall make the running ones return soon.
    """
    remaining = iter(units)
    with ThreadPoolExecutor(side_by_side, thread_name_prefix="unit") as pool:
        running: set[Future[Result]] = set()
        try:
            running.update(pool.submit(work, unit) for unit in islice(remaining, side_by_side))
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    running.update(pool.submit(work, unit) for unit in islice(remaining, 1))
                    yield future.result()
        finally:
            if running:
                interrupt()
            for future in running:
                future.cancel()
