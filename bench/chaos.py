"""Kills `ingest`, `run`, `train` and `predict` at random moments and at chosen points, and looks what became of a lake.

`make chaos`: 100 kills on mosaics of real patches (see bench/mosaics.py), the same command after each. Between a kill
and the next start readers must see whole units only, and every promise kept. At the end of a series all is finished
undisturbed, and all tables must equal, row for row, those of a lake that nothing befell. Writes bench/chaos.json, and
the table of docs/guarantees.md; exit status 1 when anything was lost, doubled, or half there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chaos_lake
import mosaics
import polars as pl
import report

RANDOM = "at a random moment"
ANY_COMMIT = (
    "before a commit",
    "between data files and log entry",
    "between commit and ledger",
    "during the ledger write",
)
WITHIN_COMMIT = ("between data files and log entry", "during the ledger write", "while the ledger is tidied")
TOO_LATE = "as soon as a commit's log entry was there"  # where one of these came so late that the commit came about
CHOSEN = {
    "ingest": ("while the lake is made", *ANY_COMMIT),
    "run": (*ANY_COMMIT, "while the ledger is tidied", "while a checkpoint is written"),
    "train": (
        "while MLflow's database is made",
        "while MLflow logs",
        "before the model is registered",
        "before the model's file",
        "between the model's file and the model",
        "between commit and ledger",
        "between MLflow's champion and the lake's",
    ),
    "predict": ANY_COMMIT,
}
"""The points at which each command is killed, in turn."""

KILLS = {"ingest": (1, 1), "run": (2, 2), "train": (1, 1), "predict": (1, 1)}  # chosen, random, in a series
START_S = 1.0  # before that a command has hardly begun
TUMOR, NORMAL, GRID = 8, 4, 9  # slides, and cells along an edge of each
TILING = ("--patch-px", "96", "--mpp", "0.972", "--min-tissue", "0.05")


@dataclass
class Tally:
    """What became of all series. missed: commands that ended before they were killed."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0
    series: int = 0
    resumes: int = 0
    readers: int = 0
    half_units: list[str] = field(default_factory=list)
    broken_promises: list[str] = field(default_factory=list)
    rows: int = 0
    different: Counter[str] = field(default_factory=Counter)
    tables: set[str] = field(default_factory=set)
    strays: int = 0
    strays_after_maintain: int = 0
    unfinished_trainings: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled, half there, or left behind by `maintain`."""
        return not (
            self.half_units or self.broken_promises or any(self.different.values()) or self.strays_after_maintain
        )

    @property
    def figures(self) -> dict[str, Any]:
        """As they are kept."""
        kills = [{"command": c, "point": p, "kills": n} for (c, p), n in sorted(self.kills.items())]
        counts = {name: self.different[name] for name in ("lost", "other", "doubled")}
        others = {name: value for name, value in vars(self).items() if name not in ("kills", "different", "tables")}
        return {"kills": kills, "different_rows": counts, "different_tables": sorted(self.tables), **others}


class Harness:
    """Slides, what is done with them, and the lake that nothing befell."""

    def __init__(self, folder: Path, slides: Path, onnx: Path | None, seed: int) -> None:
        self._folder, self._onnx, self._random = folder, onnx, random.Random(seed)  # noqa: S311
        encoder = ("--encoder", "own" if onnx else "efficientnet_lite0")
        sources = ("--annotations", str(slides / "*.xml"), "--manifest", str(slides / "manifest.csv"))
        self.commands: dict[str, tuple[str, ...]] = {
            "ingest": ("ingest", str(slides / "*.tif"), *sources),
            "run": ("run", *TILING, *encoder),
            "train": ("train", *encoder),
            "predict": ("predict",),
        }
        self._chosen = {name: itertools.cycle(points) for name, points in CHOSEN.items()}
        self._seconds: dict[str, float] = {}
        self.tally = Tally()
        self._undisturbed = folder / "undisturbed"
        for name in self.commands:
            start = time.monotonic()
            self._finish(name, self._undisturbed)
            self._seconds[name] = time.monotonic() - start
        self._histolake("evaluate", self._undisturbed)
        self.wanted = chaos_lake.frames(self._undisturbed)

    def series(self, plan: dict[str, Sequence[tuple[str, int]]] | None = None) -> None:
        """Kill every command some times, finish it, and compare. plan: points and numbers of calls, by command."""
        tally = self.tally
        root = self._folder / f"lake-{tally.series}"
        for name in self.commands:
            for point, number in plan[name] if plan else self._drawn(name):
                left = set(chaos_lake.strays(root))
                if self._killed(name, root, point, number):
                    is_late = point in WITHIN_COMMIT and left == set(chaos_lake.strays(root))
                    tally.kills[name, TOO_LATE if is_late else point] += 1
                    tally.resumes += 1
                    self._read(root, f"{name} killed {point}, {number}")
                else:
                    tally.missed += 1
            self._finish(name, root)
            self._read(root, f"{name} finished")
        self._histolake("evaluate", root)
        self._read(root, "evaluated")
        for each in chaos_lake.differences(chaos_lake.frames(root), self.wanted):
            tally.rows += each.rows
            tally.different.update({"lost": each.lost, "other": each.other, "doubled": each.doubled})
            if each.lost or each.other or each.doubled:
                tally.tables.add(each.table)
                print(f"{root}: {each}", flush=True)
        tally.unfinished_trainings += chaos_lake.unfinished_trainings(root)
        tally.strays += len(chaos_lake.strays(root))
        chaos_lake.age(root)
        self._histolake("maintain", root, "--keep-hours", "24")
        tally.strays_after_maintain += len(chaos_lake.strays(root))
        self._read(root, "maintained")
        tally.series += 1

    def _drawn(self, name: str) -> Iterator[tuple[str, int]]:
        """Points of a series, in an order by chance; the number of the call is soon, for the command has done some."""
        chosen, by_chance = KILLS[name]
        points = [next(self._chosen[name]) for _ in range(chosen)] + [RANDOM] * by_chance
        self._random.shuffle(points)
        return iter([(point, self._random.randint(1, 4)) for point in points])

    def _killed(self, name: str, root: Path, point: str, number: int) -> bool:
        """Start a command and have it killed; whether that came before its end. Raises RuntimeError when it fails."""
        child = [sys.executable, str(Path(__file__).with_name("chaos_child.py")), point, str(number)]
        process = subprocess.Popen(  # noqa: S603
            [*child, *self.commands[name], "--lake", str(root)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait = None
        if point == RANDOM:
            wait = START_S + self._random.random() * (self._seconds[name] - START_S) * 0.7
        try:
            _, said = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
        if process.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{name} on {root} ended with {process.returncode}: {said}")
        return process.returncode != 0

    def _read(self, root: Path, when: str) -> None:
        """Look at the lake as readers would."""
        self.tally.readers += 1
        self.tally.half_units += [f"{when}: {each}" for each in chaos_lake.half_units(root, self.wanted)]
        self.tally.broken_promises += [f"{when}: {each}" for each in chaos_lake.broken_promises(root)]

    def _finish(self, name: str, root: Path) -> None:
        """Run a command to its end, as a person would after a crash."""
        command, *words = self.commands[name]
        self._histolake(command, root, *words)
        if name == "ingest" and self._onnx:
            self._histolake("encoders", root, "add", "own", "--onnx", str(self._onnx), "--scale", "0.00392157")

    def _histolake(self, command: str, root: Path, *words: str) -> None:
        call = [sys.executable, "-m", "lake", command, *words, "--lake", str(root)]
        done = subprocess.run(  # noqa: S603
            call, cwd=report.ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{command} on {root} ended with {done.returncode}: {done.stderr}")


def environment() -> dict[str, str]:
    """Of children: this checkout's histolake."""
    return {**os.environ, "PYTHONPATH": str(report.ROOT)}


def write_slides(folder: Path, tool: Path, patches: Path) -> Path:
    """12 small mosaics of real patches, 8 with tumor, in fixed splits."""
    mosaics.build(folder, tool, patches / "train.parquet", 0.1, tumor=TUMOR, normal=NORMAL, grid=GRID)
    splits = itertools.cycle(["train", "train", "validation", "test"])
    rows = [f"{file.stem},{next(splits)}" for file in sorted(folder.glob("*.tif"))]
    (folder / "manifest.csv").write_text("\n".join(["slide_id,split", *rows]) + "\n", encoding="utf-8")
    return folder


EACH_POINT_ONCE: dict[str, Sequence[tuple[str, int]]] = {
    "ingest": [("before a commit", 1)],
    "run": [
        ("between data files and log entry", 2),
        ("between commit and ledger", 6),
        ("during the ledger write", 3),
        ("while the ledger is tidied", 1),
        ("while a checkpoint is written", 1),
    ],
    "train": [("while MLflow's database is made", 1), ("between the model's file and the model", 1)],
    "predict": [(RANDOM, 1)],
}


def main() -> None:
    """Kill as often as asked, and write down what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="at least so many, in whole series")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance")
    parser.add_argument("--patches", type=Path, default=report.SHARED / "data/pcam", help="folder of the patches")
    parser.add_argument("--tool", type=Path, default=report.SHARED / "tools/mosaic.py", help="the builder of slides")
    parser.add_argument("--slides", type=Path, help="a folder of slides with a manifest.csv instead")
    parser.add_argument("--onnx", type=Path, help="an encoder instead of efficientnet_lite0")
    parser.add_argument("--short", action="store_true", help="one series with each chosen point; prints the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="histolake-chaos-") as temporary:
        folder = Path(temporary)
        files = given.slides or write_slides(folder / "slides", given.tool, given.patches)
        harness = Harness(folder, files, given.onnx, given.seed)
        tally = harness.tally
        if given.short:
            harness.series(EACH_POINT_ONCE)
            print(json.dumps(tally.figures))
            return
        while tally.kills.total() < given.kills:
            harness.series()
            print(f"{tally.kills.total()} kills, {tally.missed} came too late", flush=True)
            slides = harness.wanted["slides"].height
            figures = {"machine": report.machine(), "seed": given.seed, "slides": slides, **tally.figures}
            report.write(
                "chaos", figures, "guarantees.md", {"chaos": table(figures)}
            )  # after each: hours may be cut short
    sys.exit(not tally.is_clean)


def table(figures: dict[str, Any]) -> str:
    """The marked part of docs/guarantees.md."""
    kills = pl.DataFrame(figures["kills"])
    rows = [
        (point, ", ".join(f"`{command}` {number}" for command, number in group.select("command", "kills").rows()))
        for (point,), group in kills.group_by("point", maintain_order=True)
    ]
    total, different = kills["kills"].sum(), figures["different_rows"]
    half, broken = len(figures["half_units"]), len(figures["broken_promises"])
    about = [
        f"{total} kills in {figures['series']} series on {figures['slides']} mosaics, {figures['resumes']} resumes;",
        f"{figures['rows']:,} rows compared with an undisturbed lake's: {different['lost']} lost,",
        f"{different['doubled']} doubled, {different['other']} other.",
        f"Readers looked {figures['readers']} times, between kill and resume and after: {half} half units,",
        f"{broken} broken promises.",
        f"Of commits that never came about {figures['strays']} files were left,",
        f"{figures['strays_after_maintain']} after `histolake maintain`;",
        f"MLflow keeps {figures['unfinished_trainings']} runs of killed trainings. {figures['machine']}.",
    ]
    return f"{report.grid(('killed', 'times, by command'), rows)}\n\n{' '.join(about)}"


if __name__ == "__main__":
    main()
