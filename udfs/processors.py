"""How many processors this process may use."""

from __future__ import annotations

import os


def cores() -> int:
    """Processors that this process may use: those of the system, or as many as OMP_NUM_THREADS allows.

    Ray sets that variable for each of its workers.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(here, max(1, int(allowed))) if allowed.isdecimal() else here
