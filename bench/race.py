"""What the benchmarks of speed share: rounds in which we and our peers take turns, and what comes of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROUNDS = 5
OURS = "histolake"


@dataclass(frozen=True)
class Figure:
    """One line of docs/benchmarks.md.

    value: ours, in `unit`, median of the rounds. peer, peer_value: who else did the same, and what it took.
    ratio: ours to the peer's, median of the rounds' own ratios; above 1 we are the faster one.
    at_least: the bar for the ratio (for the value, without a peer); at_most: the bar for the value.
    note: what a reader has to know; why there is no value, where there is none.
    """

    what: str
    unit: str
    value: float | None
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is met; None without a bar, or without a value."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        reached = self.value if self.ratio is None else self.ratio
        return (self.at_least is None or reached >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )


def rates(contenders: Mapping[str, Callable[[], int]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Rows a second of every contender, one number a round; each is called once before, for what is warmed up by that.

    A contender does its work and returns how many rows that were. The order is turned round every other round, so
    that a machine that grows busy favours nobody.
    """
    for work in contenders.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in [*contenders][:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            rows = contenders[name]()
            found[name].append(rows / (time.perf_counter() - start))
    return found


def against(
    what: str, unit: str, measured: Mapping[str, Sequence[float]], bars: Mapping[str, float | None]
) -> list[Figure]:
    """Our rate beside that of each peer of `bars`, with the least ratio that is wanted, if any."""
    ours = measured[OURS]
    return [
        Figure(
            what,
            unit,
            statistics.median(ours),
            peer,
            statistics.median(measured[peer]),
            statistics.median([a / b for a, b in zip(ours, measured[peer], strict=True)]),
            at_least=bar,
        )
        for peer, bar in bars.items()
    ]


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median seconds of some calls."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@dataclass(frozen=True)
class Ran:
    """What a process took: seconds from start to end, and the most memory that it and those below it held, bytes."""

    seconds: float
    peak: int
    output: str


ALONE = """
import resource, subprocess, sys, time
from pathlib import Path

def held(pid):  # bytes that a process and all below it hold; what several share is counted once
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        below = " ".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")).split()
    except (OSError, ValueError):  # it ended just now
        return 0
    own = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return 1024 * own + sum(map(held, below))

process, most = subprocess.Popen([sys.executable, *sys.argv[1:]]), 0
while process.poll() is None:
    most = max(most, held(process.pid))
    time.sleep(0.1)
alone = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print("\\n%d" % max(most, alone))
sys.exit(process.returncode)
"""


def in_process(arguments: Sequence[str], **environment: str) -> Ran:
    """Run this Python with arguments in a process of its own, and measure that. Raises RuntimeError when it fails.

    A small process stands between: Linux gives a new process the peak of the one that started it.
    """
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", ALONE, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with status {done.returncode}")
    output, _, peak = done.stdout.rstrip().rpartition("\n")
    return Ran(took, int(peak), output)


def row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    """A figure of bench/results.json as cells of the table."""
    each = Figure(**figure)
    bar = ""
    if each.at_least is not None:
        bar = f"≥ {each.at_least:g}"
    if each.at_most is not None:
        bar = f"≤ {each.at_most:g} {each.unit}"
    met = {None: "", True: "met", False: "**missed**"}[each.is_met]
    return (
        each.what,
        f"not measured: {each.note}" if each.value is None else f"{amount(each.value)} {each.unit}",
        each.peer,
        "" if each.peer_value is None else f"{amount(each.peer_value)} {each.unit}",
        "" if each.ratio is None else f"{each.ratio:.2f}",
        bar,
        met,
        "" if each.value is None else each.note,
    )


COLUMNS = ("measure", "histolake", "peer", "peer's", "ratio", "bar", "", "remark")


def amount(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
