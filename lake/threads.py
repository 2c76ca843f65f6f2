"""Several units of work side by side in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

LOOK_SECONDS = 0.25  # Ctrl-C is seen between waits only, see docs/engine-notes.md

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Unit], Result], units: Iterable[Unit], at_once: int, interrupt: Callable[[], None]
) -> Iterator[Result]:
    """Apply `work` to every unit in threads of this process; yields results as they come.

    at_once: units computed at the same time. Only as many more are started as results are taken, so
    that waiting results do not fill the memory. Leaving the loop early starts no further unit, and
    calls `interrupt`, which shall make the running ones return soon, until they have.
    """
    remaining = iter(units)
    with ThreadPoolExecutor(at_once, thread_name_prefix="unit") as pool:
        running: set[Future[Result]] = set()
        try:
            running.update(pool.submit(work, unit) for unit in islice(remaining, at_once))
            while running:
                done, running = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
                for future in done:
                    running.update(pool.submit(work, unit) for unit in islice(remaining, 1))
                    yield future.result()
        finally:
            for future in running:
                future.cancel()
            while running:
                interrupt()
                _, running = wait(running, LOOK_SECONDS)
