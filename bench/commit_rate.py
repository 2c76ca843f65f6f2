"""How many slides an hour writers of one table can commit, alone and side by side, into docs/ray.md.

Each writer is a process that has its rows at once, as no worker has that computes them: what is measured is the
ceiling that commits put on a cluster. `one a commit` commits every slide by itself; `grouped` is lake/commits.py as
workers use it. Slides have 8,192 patches. `python bench/commit_rate.py [PLACE [TABLE …]]`: a folder, or an
address in object storage, to make lakes in.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import lakes
import pyarrow as pa
import report
from lake_rows import PART, slides_of

from lake import commits, creation, sql_files, storage, store
from lake.choices import lake_path
from lake.commits import Committer
from lake.units import Result, Unit

WRITERS = {"predictions": (1, 2, 4, 8), "features": (1, 4)}
SECONDS = 20.0
MOST = 10_000  # slides of a writer
IDENTITY = {"patch_set": lakes.PATCH_SET, "encoder_id": lakes.ENCODER, "model_id": lakes.MODEL}

Counts = tuple[int, int, float]


def results(writer: int, stage: str) -> Iterator[Result]:
    """Slide after slide, all with the same rows but for their names."""
    slides = slides_of({f"slide {writer} {number:06d}": PART for number in range(MOST)})
    identity = json.dumps({name: IDENTITY[name] for name in sql_files.stages()[stage].identity})
    rows = lakes.unit_rows(stage, (slides[0], 0)).drop_columns("bucket")
    for slide in slides:
        unit = Unit(slide.slide_id, identity, 0, True, slide.fingerprint, slide.bucket, PART)
        yield Result(unit, rows.set_column(0, "slide_id", pa.repeat(slide.slide_id, PART)), 0, None, 1.0)


def write(root: Path, stage: str, writer: int, is_grouped: bool, ready: Barrier, counts: Queue[Counts]) -> None:
    """Commit slides for SECONDS once all writers are ready; tells how many, in how many commits and seconds."""
    if not is_grouped:
        commits.COMMIT_UNITS = 1
    committer = Committer(root, sql_files.stages()[stage], {}, f"bench {writer}", {})
    made = itertools.chain([next(whole := results(writer, stage))], whole)
    ready.wait()
    start = time.monotonic()
    slides = done = 0
    while time.monotonic() - start < SECONDS:
        committed = committer.add(next(made))
        slides, done = slides + len(committed), done + bool(committed)
    rest = committer.flush()
    counts.put((slides + len(rest), done + bool(rest), time.monotonic() - start))


def measure(folder: Path, stage: str, writers: int, is_grouped: bool) -> dict[str, Any]:
    """Rates of so many writers to a new lake: the sum of their own."""
    root = folder / f"{stage}-{writers}-{is_grouped}"
    creation.create(root)
    context = multiprocessing.get_context("spawn")
    ready, counts = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=write, args=(root, stage, number, is_grouped, ready, counts))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    told: list[Counts] = [counts.get() for _ in processes]
    for process in processes:
        process.join()
    held, slides = store.rows(root, "runs").filter(stage=stage), sum(each[0] for each in told)
    if held.height != slides or held["slide_id"].n_unique() != slides:
        raise RuntimeError(f"{root}: {slides} slides were committed, and the ledger tells of {held.height}")
    return {
        "table": stage,
        "writers": writers,
        "commit": "grouped" if is_grouped else "one a commit",
        "commits_per_second": sum(done / took for _, done, took in told),
        "slides_per_hour": sum(slides / took for slides, _, took in told) * 3600,
    }


def main() -> None:
    """Measure, and write down."""
    machine = f"{report.machine()}, load {os.getloadavg()[0]:.1f} before"
    with tempfile.TemporaryDirectory(prefix="histolake-bench-") as temporary:
        place, *tables = sys.argv[1:] or [temporary]
        folder = lake_path(place)
        found = [
            measure(folder, stage, writers, is_grouped)
            for stage in tables or WRITERS
            for writers in WRITERS[stage]
            for is_grouped in (False, True)
        ]
    kind = "object_storage" if storage.is_remote(folder) else "folder"
    kept = report.ROOT / "bench" / "commit_rate.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known[kind] = {"machine": machine, "figures": found}
    report.write("commit_rate", known, "ray.md", {kind: table(known[kind])})


def table(measured: dict[str, Any]) -> str:
    """As it stands on the page."""
    rows = [
        (
            each["table"],
            str(each["writers"]),
            each["commit"],
            f"{each['commits_per_second']:.1f}",
            f"{each['slides_per_hour']:,.0f}",
        )
        for each in measured["figures"]
    ]
    columns = ("table", "writers", "slides", "commits/s", "slides/hour")
    return f"{report.grid(columns, rows)}\n\n{ceiling(measured['figures'])} {measured['machine']}."


def ceiling(figures: list[dict[str, Any]]) -> str:
    """What most writers reach by either way, in a sentence."""
    writers = max(each["writers"] for each in figures)
    most = {each["commit"]: each for each in figures if each["writers"] == writers}
    alone, grouped = (f"{most[way]['slides_per_hour']:,.0f}" for way in ("one a commit", "grouped"))
    stage = most["grouped"]["table"]
    return f"{writers} writers of {stage} commit {alone} slides an hour one by one, and {grouped} grouped."


if __name__ == "__main__":
    main()
