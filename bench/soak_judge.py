"""Whether what a process takes stays flat: memory, open files and threads over time; see bench/soak.py.

Memory grew when its median over the last quarter of the samples, or the line through all of them after the first
quarter, is further above the second than `JUDGED` says; open files and threads, when more are left at rest: pools come
and go with the load.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
import report

JUDGED = {"rss_mb": (0.10, 48.0), "handles": (0.0, 6.0), "threads": (0.0, 4.0), "processes": (0.0, 4.0)}
"""What is measured later may be above what was before by this share, and so much more."""

PIPES = 3  # and memory, by which it talks to each process of its own: a few readers of slides, which it keeps
REST_S = 15  # looked for the least that is left at rest


def measured(process: psutil.Process) -> dict[str, float]:
    """What a process takes now."""
    processes = len(process.children())
    return {
        "rss_mb": process.memory_info().rss / 2**20,
        "handles": process.num_fds() - PIPES * processes,
        "threads": process.num_threads(),
        "processes": processes,
    }


def at_rest(process: psutil.Process) -> dict[str, float]:
    """The least that a process takes which nobody asks for anything."""
    found = []
    for _ in range(REST_S):
        found.append(measured(process))
        time.sleep(1)
    return {name: min(each[name] for each in found) for name in JUDGED}


def judged(samples: Sequence[dict[str, float]], before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    """Memory of the second and the last quarter, and its rise; what was left at rest; and whether all is flat."""
    quarter = max(1, len(samples) // 4)
    parts = (samples[quarter : 2 * quarter] or samples, samples[-quarter:])
    earlier, later = ({"rss_mb": statistics.median(each["rss_mb"] for each in part)} for part in parts)
    told: dict[str, Any] = {"samples": len(samples)}
    for name, (share, more) in JUDGED.items():
        one, other = (before | earlier)[name], (after | later)[name]
        told[name] = {"before": one, "after": other, "is_flat": other - one <= share * one + more}
    warm = samples[quarter:]
    if len(warm) > 1:
        at = np.array([each["at"] for each in warm])
        slope = float(np.polyfit(at, [each["rss_mb"] for each in warm], 1)[0])
        share, more = JUDGED["rss_mb"]
        gained = slope * float(at[-1] - at[0])
        told["rss_mb"]["per_hour"] = slope * 3600
        told["rss_mb"]["is_flat"] &= gained <= share * told["rss_mb"]["before"] + more
    return told


def table(figures: dict[str, Any]) -> str:
    """The marked part of docs/guarantees.md."""
    names = {
        "rss_mb": "memory, MB, second and last quarter",
        "handles": "open files at rest, without those to its own processes",
        "threads": "threads at rest",
        "processes": "own processes at rest",
    }
    rows = [
        (process, words, *(f"{figures[process][name][part]:,.0f}" for part in ("before", "after")))
        for process in ("app", "reader")
        for name, words in names.items()
    ]
    done = ", ".join(f"{number:,} {name}" for name, number in figures["done"].items())
    columns = ("process", "what", "before", "after")
    lasted = f"{figures['minutes']:.0f} minutes, the first eighth to warm up"
    about = f"{lasted}, in which all that was asked for was answered: {done}."
    rise = " and ".join(f"{figures[each]['rss_mb']['per_hour']:.0f} ({each})" for each in ("app", "reader"))
    line = f"A line through its samples has memory rise by {rise} MB an hour, while the ledger grows."
    return f"{report.grid(columns, rows)}\n\n{about} {line} {figures['machine']}."
