"""Units side by side: leaving early ends what runs, also what does not hear of it at first."""

from __future__ import annotations

import threading

from lake.threads import side_by_side


def test_those_that_run_are_interrupted_until_they_have_returned() -> None:
    """The second unit is deaf to the first calls, as a cursor is between two statements."""
    is_over, calls = threading.Event(), []

    def work(unit: int) -> int:
        if unit:
            assert is_over.wait(30)
        return unit

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == 3:
            is_over.set()

    results = side_by_side(work, range(10), 2, interrupt)
    assert next(results) == 0
    results.close()
    assert is_over.is_set()
