"""Mixed load for hours, into docs/guarantees.md: memory, open files and threads of what lives long must stay flat.

`make soak`: slides are replaced, ingested, run and predicted by commands, one after the other, while visitors read
pages, tiles and heatmaps of a real app and a process reads the lake by connections and by the SQL page's workbench.
The lake keeps its size: as many slides, again and again other ones. The first eighth warms up: what begins as it is
needed, readers of slides and workers of the SQL page, has begun then. Fails when what is measured later grew
(bench/soak_judge.py), when anything that was asked for fails, and when it is not done in its time: nothing is waited
for without end.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import report
from app_visit import ANSWER_S, is_up, visit, visitor
from chaos import TILING, environment
from soak_judge import JUDGED, at_rest, judged, measured, table
from soak_slides import write_slide

from lake import store

SLIDES = 8
SAMPLE_S = 1.0
START_S = 120
COMMAND_S = 600.0  # for a command, on a machine that is as busy as this
WARM_UP_S = 1800.0  # until all was done once
END_S = 60.0  # for a process to end when it is told to
VISITS = 20  # of a session
PAGES = ("", "viewer", "models", "sql", "lineage")
MAINTAIN_EVERY = 10  # rounds of the writer
WARM_UP_SHARE = 0.125  # of the time
WARM_UP_PAGES, WARM_UP_ROUNDS = 2 * VISITS, 1  # visited and written before anything is measured
SHORT_MINUTES = 0.5


@dataclass
class Load:
    """What was asked for and answered; the first failure ends all."""

    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)
    is_resting: threading.Event = field(default_factory=threading.Event)

    def again(self, work: Callable[[], None]) -> threading.Thread:
        """Do the work over and over in a thread, until there is a rest."""

        def loop() -> None:
            while self.goes_on:
                try:
                    work()
                except Exception as error:  # whatever it is, it is a failure of what was asked for
                    self.fail(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        return thread

    @property
    def goes_on(self) -> bool:
        """Whether more is to be asked for."""
        return not (self.is_over.is_set() or self.is_resting.is_set())

    def fail(self, why: str) -> None:
        """End all for a failure."""
        self.failures.append(why)
        self.is_over.set()


class Soak:
    """The lake, what is done to it, and what is measured meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.root, self.slides = folder / "lake", folder / "slides"
        self._folder = folder
        self.slides.mkdir()
        self._rounds: list[dict[str, float]] = []  # of the reader: what it has open after each
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
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:  # a pipe would wait for what the command started
            own = {"cwd": report.ROOT, "env": environment(), "stdout": subprocess.DEVNULL, "stderr": said}
            done = subprocess.run(command, timeout=COMMAND_S, **own)  # type: ignore[call-overload]  # noqa: S603
            said.seek(0)
            if done.returncode:
                raise RuntimeError(f"{words[0]} ended with {done.returncode}: {said.read()[-2000:]}")
        self.load.done[words[0]] += 1

    def write(self) -> None:
        """A round of the writer: some slides give way to new ones, and all that follows from them is made."""
        self._number += 1
        for number in self._random.sample(range(SLIDES), 2):
            write_slide(self.slides / f"s{number}.tif", SLIDES * self._number + number)
        steps: list[Callable[[], None]] = [self.ingest, *(partial(self.histolake, name) for name in ("run", "predict"))]
        if self._number % MAINTAIN_EVERY == 0:
            steps.append(partial(self.histolake, "maintain", "--keep-hours", "24"))
        for step in steps:
            if self.load.goes_on:
                step()

    def look(self, port: int) -> None:
        """A visitor's session: pages, and what they show."""
        with visitor(port) as session:
            for _ in range(VISITS):
                if not self.load.goes_on:
                    return
                page = self._random.choice(PAGES)
                slide = f"s{self._random.randrange(SLIDES)}"
                visit(session, page, f"slide={slide}" if page == "viewer" else "")
                self.load.done["pages"] += 1
                # a new one for each page: the server closes one that is idle while the next page is made
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as asked:
                    self._get(asked, f"/histolake/thumbnails/{slide}.jpeg")
                    self._get(asked, f"/histolake/heatmaps/{quote(slide)}{self._heatmap}")
                    for level in (8, 9, 10):
                        self._get(asked, f"/histolake/tiles/{slide}/{level}/0_0.jpeg")

    def _get(self, asked: http.client.HTTPConnection, path: str) -> None:
        asked.request("GET", path)
        answer = asked.getresponse()
        body = answer.read()
        # a slide that is new, whose scores are to come
        is_between = answer.status == 404 and b"`histolake predict` scores" in body
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
        with (self._folder / "app.log").open("w+", encoding="utf-8") as log:
            started = subprocess.Popen(command, cwd=report.ROOT, env=own, stdout=log, stderr=log)  # noqa: S603
            try:
                deadline = time.monotonic() + START_S
                while not is_up(port):
                    if started.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise RuntimeError(f"the app did not start: {log.read()[-2000:]}")
                    time.sleep(0.2)
                [server] = psutil.Process(started.pid).children()
                yield port, server
            finally:
                end(started)

    @contextlib.contextmanager
    def reader(self) -> Iterator[psutil.Process]:
        """A process that reads for as long; its end without being asked is a failure."""
        command = [sys.executable, str(Path(__file__).with_name("soak_reader.py")), str(self.root)]
        started = subprocess.Popen(  # noqa: S603
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

        def count() -> None:
            for line in started.stdout or ():
                self._rounds.append(
                    dict(zip(("handles", "threads", "processes"), map(float, line.split()), strict=True))
                )
                self.load.done["reads"] += 1
            if not self.load.is_over.is_set():
                self.load.fail(f"the reader ended with {started.wait(END_S)}")

        counter = threading.Thread(target=count, daemon=True)
        counter.start()
        try:
            yield psutil.Process(started.pid)
        finally:
            self.load.is_over.set()
            if started.stdin is not None:
                started.stdin.close()
            try:
                started.wait(END_S)
            except subprocess.TimeoutExpired:
                self.load.fail(f"the reader had not ended {END_S:g} s after it was told to")
            end(started)
            counter.join(END_S)

    @contextlib.contextmanager
    def loaded(self, port: int) -> Iterator[None]:
        """Meanwhile slides are written and pages visited; then what was begun is ended, and there is a rest."""
        self.load.is_resting.clear()
        works: list[Callable[[], None]] = [self.write, *[partial(self.look, port)] * 2]
        threads = [self.load.again(work) for work in works]
        try:
            yield
        finally:
            self.load.is_resting.set()
            deadline = time.monotonic() + COMMAND_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            if any(thread.is_alive() for thread in threads):
                self.load.fail(f"what was asked for last was not done after {COMMAND_S:g} s")

    def run(self, minutes: float) -> dict[str, Any]:
        """All of it for so long; figures. Raises RuntimeError when anything that was asked for failed."""
        samples: dict[str, list[dict[str, float]]] = {"app": [], "reader": []}
        self.load.done.clear()
        with self.app() as (port, server), self.reader() as reader:
            warm_up_s = 60 * minutes * WARM_UP_SHARE
            start = time.monotonic()
            with self.loaded(port):
                while not self.is_warm or time.monotonic() - start < warm_up_s:
                    if self.load.is_over.wait(SAMPLE_S):
                        break
                    if not self.is_warm and time.monotonic() - start > WARM_UP_S:
                        self.load.fail(f"not all was done once within {WARM_UP_S:g} s")
            before = {"app": at_rest(server), "reader": self._rounds[-1] if self._rounds else {}}
            measured_from = time.monotonic()
            with self.loaded(port):
                while time.monotonic() - measured_from < 60 * minutes - warm_up_s:
                    if self.load.is_over.wait(SAMPLE_S):
                        break
                    for name, process in (("app", server), ("reader", reader)):
                        samples[name].append({"at": time.monotonic() - measured_from, **measured(process)})
            lasted = (time.monotonic() - start) / 60
            after = {"app": at_rest(server), "reader": self._rounds[-1] if self._rounds else {}}
        if self.load.failures:
            said = (self._folder / "app.log").read_text(encoding="utf-8")[-2000:]
            raise RuntimeError(f"after {dict(self.load.done)}: {'; '.join(self.load.failures)}; the app said: {said}")
        flatness = {name: judged(samples[name], before[name], after[name]) for name in samples}
        return {"minutes": lasted, "done": dict(sorted(self.load.done.items())), **flatness}


def end(started: subprocess.Popen[Any]) -> None:
    """End a process and all that it started, by force where that is needed."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(started.pid)
        family = [*parent.children(recursive=True), parent]
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.terminate()
    _, left = psutil.wait_procs(family, END_S)
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, END_S)


def main() -> None:
    """Load, and write down how flat it stayed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0, help="how long, warming up included")
    parser.add_argument("--short", action="store_true", help="half a minute; prints the figures")
    given = parser.parse_args()
    minutes = SHORT_MINUTES if given.short else given.minutes
    with tempfile.TemporaryDirectory(prefix="histolake-soak-") as folder:
        figures = {"machine": report.machine(), **Soak(Path(folder)).run(minutes)}
    print(json.dumps(figures))
    if not given.short:
        report.write("soak", figures, "guarantees.md", {"soak": table(figures)})
    is_flat = all(figures[process][name]["is_flat"] for process in ("app", "reader") for name in JUDGED)
    sys.exit(not is_flat)


if __name__ == "__main__":
    main()
