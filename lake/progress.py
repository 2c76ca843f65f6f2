"""Progress bars of long work: slides done, rows a second, time left, slides that are being fetched."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from udfs.registry import rows_seen
from udfs.slide_cache import coming

REFRESH_SECONDS = 0.25


class Countable(Protocol):
    """A unit of work as a progress bar sees it."""

    @property
    def slide_id(self) -> str:
        """Its slide."""

    @property
    def rows(self) -> int:
        """Rows of its input."""


class Bar:
    """The progress of one stage."""

    def __init__(self, bars: Bars, task: TaskID, units: Sequence[Countable]) -> None:
        self._bars, self._task = bars, task
        self._left = Counter(unit.slide_id for unit in units)
        self._total, self._finished, self._slides = sum(unit.rows for unit in units), 0, len(self._left)
        self._seen_before = Counter(rows_seen)

    def advance(self, unit: Countable) -> None:
        """Count a finished unit."""
        self._left[unit.slide_id] -= 1
        self._finished += unit.rows
        self.refresh()

    def refresh(self) -> None:
        """Show the rows of finished units, or as many as have passed through a UDF if those are more."""
        passed = max((rows_seen - self._seen_before).values(), default=0)
        done = max(self._finished, min(passed, self._total))
        slides = sum(1 for count in self._left.values() if count <= 0)
        self._bars.update(self._task, completed=done, slides=f"{slides}/{self._slides} slides", fetching=_fetching())


def _fetching() -> str:
    """The slides that are being fetched: `fetching a.svs 34 % of 2.1 GB`."""
    slides = [f"{name} {held / max(1, size):.0%} of {size / 1e9:.2g} GB" for name, (held, size) in dict(coming).items()]
    return f"fetching {', '.join(slides)}" if slides else ""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="progress.data.speed")


class Progress:
    """Makes bars on stderr when that is a terminal, and stays silent otherwise."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._is_silent = not self._console.is_terminal

    @classmethod
    def silent(cls) -> Progress:
        """Shows nothing."""
        return cls(Console(file=sys.stderr, force_terminal=False))

    @contextmanager
    def stage(self, name: str, units: Sequence[Countable]) -> Iterator[Bar]:
        """A bar for the units of a stage; redrawn while the block runs."""
        bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[slides]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[fetching]}"),
            console=self._console,
            disable=self._is_silent,
        )
        with bars:
            task = bars.add_task(name, total=sum(unit.rows for unit in units), slides="", fetching="")
            bar, finished = Bar(bars, task, units), threading.Event()

            def redraw() -> None:
                while not finished.wait(REFRESH_SECONDS):
                    bar.refresh()

            painter = threading.Thread(target=redraw, daemon=True)
            painter.start()
            try:
                yield bar
            finally:
                finished.set()
                painter.join()
                bar.refresh()
