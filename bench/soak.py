"""Mixed load for hours, into docs/guarantees.md: memory, open files and threads of what lives long must stay flat.

`make soak`: slides are replaced, ingested, run and predicted by commands, one after the other, while visitors read
pages, tiles and heatmaps of a real app and a process reads the lake by connections and by the SQL page's workbench.
The lake keeps its size: as many slides, again and again other ones. It is measured from when all was done once. Fails
when the last quarter, or for memory the line through all samples after the first, is further above the second than
`JUDGED` says, and when anything that was asked for fails.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import report
from app_visit import is_up, visit, visitor
from chaos import TILING, environment

from lake import store
from lake.pyramid import write_pyramid

SLIDES, EDGE_PX, CELL_PX, MPP = 8, 768, 96, 0.972
SAMPLE_S = 5.0
START_S = 120
ANSWER_S = 120.0  # whatever is asked for is answered within it, on a machine that is as busy as this
COMMAND_S = 1200.0  # and so is a command
VISITS = 20  # of a session
PAGES = ("", "viewer", "models", "sql", "lineage")
MAINTAIN_EVERY = 10  # rounds of the writer
WARM_UP_PAGES, WARM_UP_ROUNDS = 2 * VISITS, 1  # visited and written before anything is measured
JUDGED: dict[str, tuple[Callable[[Iterable[float]], float], float, float]] = {
    "rss_mb": (statistics.median, 0.10, 48.0),
    "handles": (min, 0.0, 6.0),  # pools of threads come and go with the load: what counts is what is left at rest
    "threads": (min, 0.0, 4.0),
}
"""What a quarter of the samples is judged by; the last may be above the second by this share, and so much more."""


@dataclass
class Load:
    """What was asked for and answered; the first failure ends all."""

    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def again(self, work: Callable[[], None]) -> threading.Thread:
        """Do the work over and over in a thread, until all is over."""

        def loop() -> None:
            while not self.is_over.is_set():
                try:
                    work()
                except Exception as error:  # whatever it is, it is a failure of what was asked for
                    self.failures.append(f"{type(error).__name__}: {error}")
                    self.is_over.set()

        thread = threading.Thread(target=loop)
        thread.start()
        return thread


def write_slide(path: Path, seed: int) -> None:
    """A slide of coloured cells, some of them purple, and its outline; they take the place of those before at once."""
    rng = np.random.default_rng(seed)
    cells = EDGE_PX // CELL_PX
    is_tumor = np.zeros((cells, cells), bool)
    is_tumor[2:6, 2 : 3 + seed % 4] = True
    colours = np.where(is_tumor[..., None], (120, 60, 150), (226, 150, 190)).repeat(CELL_PX, 0).repeat(CELL_PX, 1)
    pixels = (colours + rng.normal(0, 12, (EDGE_PX, EDGE_PX, 1))).clip(0, 255).astype(np.uint8)
    partial = path.with_suffix(".partial")
    write_pyramid(partial, pixels, mpp=MPP, description="soak")
    right, bottom = (3 + seed % 4) * CELL_PX, 6 * CELL_PX
    corners = [(192, 192), (right, 192), (right, bottom), (192, bottom)]
    points = "".join(f'<Coordinate Order="{order}" X="{x}" Y="{y}"/>' for order, (x, y) in enumerate(corners))
    shape = f'<Annotation Name="1" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points}</Coordinates></Annotation>'
    outline = path.with_suffix(".outline")
    outline.write_text(f"<ASAP_Annotations><Annotations>{shape}</Annotations></ASAP_Annotations>", encoding="utf-8")
    outline.replace(path.with_suffix(".xml"))
    partial.replace(path)


class Soak:
    """The lake, what is done to it, and what is measured meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.root, self.slides = folder / "lake", folder / "slides"
        self.slides.mkdir()
        self.load, self._number, self._random = Load(), 0, random.Random(0)  # noqa: S311
        for number in range(SLIDES):
            write_slide(self.slides / f"s{number}.tif", number)
        splits = ("train", "train", "validation", "test")
        rows = [f"s{number},{splits[number % 4]}" for number in range(SLIDES)]
        (self.slides / "manifest.csv").write_text("\n".join(["slide_id,split", *rows]), encoding="utf-8")
        self._prepare()

    def _prepare(self) -> None:
        self.ingest()
        self.histolake("run", *TILING, "--encoder", "efficientnet_lite0")
        self.histolake("train")
        self.histolake("predict")
        self.histolake("evaluate")
        [model] = store.rows(self.root, "models").to_dicts()
        self._heatmap = f"?model={model['model_id']}&patch_set={model['patch_set']}"

    def ingest(self) -> None:
        """Register the slides and outlines as they are."""
        sources = ("--annotations", str(self.slides / "*.xml"), "--manifest", str(self.slides / "manifest.csv"))
        self.histolake("ingest", str(self.slides / "*.tif"), *sources)

    @property
    def is_warm(self) -> bool:
        """Whether enough was done that caches are full and pages were shown."""
        return self.load.done["pages"] >= WARM_UP_PAGES and self.load.done["predict"] >= WARM_UP_ROUNDS

    def histolake(self, *words: str) -> None:
        """Run a command, which must succeed."""
        command = [sys.executable, "-m", "lake", *words, "--lake", str(self.root)]
        done = subprocess.run(  # noqa: S603
            command,
            cwd=report.ROOT,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=COMMAND_S,
        )
        if done.returncode:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        self.load.done[words[0]] += 1

    def write(self) -> None:
        """A round of the writer: some slides give way to new ones, and all that follows from them is made."""
        self._number += 1
        for number in self._random.sample(range(SLIDES), 2):
            write_slide(self.slides / f"s{number}.tif", SLIDES * self._number + number)
        self.ingest()
        self.histolake("run")
        self.histolake("predict")
        if self._number % MAINTAIN_EVERY == 0:
            self.histolake("maintain", "--keep-hours", "24")

    def look(self, port: int) -> None:
        """A visitor's session: pages, and what they show."""
        with visitor(port) as session, contextlib.closing(self._connection(port)) as asked:
            for _ in range(VISITS):
                if self.load.is_over.is_set():
                    return
                page = self._random.choice(PAGES)
                slide = f"s{self._random.randrange(SLIDES)}"
                visit(session, page, f"slide={slide}" if page == "viewer" else "")
                self.load.done["pages"] += 1
                self._get(asked, f"/histolake/thumbnails/{slide}.jpeg")
                self._get(asked, f"/histolake/heatmaps/{quote(slide)}{self._heatmap}")
                for level in (8, 9, 10):
                    self._get(asked, f"/histolake/tiles/{slide}/{level}/0_0.jpeg")

    @staticmethod
    def _connection(port: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)

    def _get(self, asked: http.client.HTTPConnection, path: str) -> None:
        asked.request("GET", path)
        answer = asked.getresponse()
        body = answer.read()
        is_between = (
            answer.status == 404 and b"`histolake predict` scores" in body
        )  # the slide is new, its scores to come
        if answer.status != 200 and not is_between:
            raise RuntimeError(f"{path}: {answer.status}, {body[:300]!r}")
        self.load.done[path.split("/")[2]] += 1

    @contextlib.contextmanager
    def app(self) -> Iterator[tuple[int, psutil.Process]]:
        """A real `histolake app`: its port, and the server's process."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        command = [sys.executable, "-m", "lake", "app", "--port", str(port), "--lake", str(self.root)]
        own = {**environment(), "STREAMLIT_SERVER_HEADLESS": "true", "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none"}
        started = subprocess.Popen(command, cwd=report.ROOT, env=own, stdout=subprocess.DEVNULL)  # noqa: S603
        try:
            deadline = time.monotonic() + START_S
            while not is_up(port):
                if started.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the app did not start")
                time.sleep(0.2)
            [server] = psutil.Process(started.pid).children()
            yield port, server
        finally:
            for each in psutil.Process(started.pid).children():
                each.terminate()
            started.wait(30)

    @contextlib.contextmanager
    def reader(self) -> Iterator[psutil.Process]:
        """A process that reads for as long; its end without being asked is a failure."""
        command = [sys.executable, str(Path(__file__).with_name("soak_reader.py")), str(self.root)]
        started = subprocess.Popen(  # noqa: S603
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

        def count() -> None:
            for _ in started.stdout or ():
                self.load.done["reads"] += 1
            if not self.load.is_over.is_set():
                self.load.failures.append(f"the reader ended with {started.wait()}")
                self.load.is_over.set()

        counter = threading.Thread(target=count)
        counter.start()
        try:
            yield psutil.Process(started.pid)
        finally:
            self.load.is_over.set()
            if started.stdin is not None:
                started.stdin.close()
            started.wait(60)
            counter.join()

    def run(self, minutes: float) -> dict[str, Any]:
        """All of it for so long; figures. Raises RuntimeError when anything that was asked for failed."""
        samples: dict[str, list[dict[str, float]]] = {"app": [], "reader": []}
        self.load.done.clear()
        with self.app() as (port, server), self.reader() as reader:
            threads = [self.load.again(self.write), *(self.load.again(lambda: self.look(port)) for _ in range(2))]
            while not self.is_warm and not self.load.is_over.wait(SAMPLE_S):
                pass
            start = time.monotonic()
            while time.monotonic() - start < 60 * minutes and not self.load.is_over.wait(SAMPLE_S):
                for name, process in (("app", server), ("reader", reader)):
                    samples[name].append({"at": time.monotonic() - start, **measured(process)})
            self.load.is_over.set()
            for thread in threads:
                thread.join()
        if self.load.failures:
            raise RuntimeError(f"after {dict(self.load.done)}: {'; '.join(self.load.failures)}")
        flatness = {name: judged(taken) for name, taken in samples.items()}
        counts = dict(sorted(self.load.done.items()))
        return {"minutes": (time.monotonic() - start) / 60, "done": counts, **flatness}


def measured(process: psutil.Process) -> dict[str, float]:
    """What a process takes now."""
    return {
        "rss_mb": process.memory_info().rss / 2**20,
        "handles": process.num_fds(),
        "threads": process.num_threads(),
    }


def judged(samples: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The second and the last quarter of the samples, the rise of memory, and whether all is flat."""
    quarter = max(1, len(samples) // 4)
    told: dict[str, Any] = {"samples": len(samples)}
    for name, (measure, share, more) in JUDGED.items():
        parts = (samples[quarter : 2 * quarter] or samples, samples[-quarter:])
        second, last = (measure([each[name] for each in part]) for part in parts)
        told[name] = {"second_quarter": second, "last_quarter": last, "is_flat": last - second <= share * second + more}
    warm = samples[quarter:]
    if len(warm) > 1:
        at = np.array([each["at"] for each in warm])
        slope = float(np.polyfit(at, [each["rss_mb"] for each in warm], 1)[0])
        _, share, more = JUDGED["rss_mb"]
        gained = slope * float(at[-1] - at[0])
        told["rss_mb"]["per_hour"] = slope * 3600
        told["rss_mb"]["is_flat"] &= gained <= share * told["rss_mb"]["second_quarter"] + more
    return told


def table(figures: dict[str, Any]) -> str:
    """The marked part of docs/guarantees.md."""
    names = {"rss_mb": "memory, MB, median", "handles": "open files, least", "threads": "threads, least"}
    rows = [
        (process, words, *(f"{figures[process][name][part]:,.0f}" for part in ("second_quarter", "last_quarter")))
        for process in ("app", "reader")
        for name, words in names.items()
    ]
    done = ", ".join(f"{number:,} {name}" for name, number in figures["done"].items())
    columns = ("process", "what", "second quarter", "last quarter")
    about = f"{figures['minutes']:.0f} minutes, in which all that was asked for was answered: {done}."
    return f"{report.grid(columns, rows)}\n\n{about} {figures['machine']}."


def main() -> None:
    """Load, and write down how flat it stayed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0, help="how long")
    parser.add_argument("--print", action="store_true", help="print the figures, write nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="histolake-soak-") as folder:
        figures = {"machine": report.machine(), **Soak(Path(folder)).run(given.minutes)}
    print(json.dumps(figures))
    if not given.print:
        report.write("soak", figures, "guarantees.md", {"soak": table(figures)})
    is_flat = all(figures[process][name]["is_flat"] for process in ("app", "reader") for name in JUDGED)
    sys.exit(not is_flat)


if __name__ == "__main__":
    main()
