"""What opening, planning, looking up, committing and maintaining take in a lake that bench/scale_lake.py wrote.

`python bench/scale_facts.py LAKE` prints one JSON object a line, for every step as soon as it is measured: name,
seconds, processor seconds, and the memory of the process thereafter, MB. It is one process; a limit ends it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import lakes
import scale_lake
from lake_rows import PART, slides_of
from speed_growth import STAGES

from lake import maintenance, pipeline, session, sql_files, store
from lake.sql_files import query
from lake.store import Replacement, Value
from lake.table_files import Files, of_slide
from lake.tables import TABLES

MEGA = 2**20
T = TypeVar("T")


def step(name: str, work: Callable[[], T], bytes_of: Callable[[T], int] | None = None) -> T:
    """Do it, and print what it took, and how many bytes it wrote."""
    start, used = time.perf_counter(), time.process_time()
    done = work()
    took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used, "memory": _memory()}
    print(json.dumps({"step": name, **took, "bytes": bytes_of(done) if bytes_of else 0}), flush=True)
    return done


def _memory() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / MEGA


def measure(root: Path) -> None:
    """All steps, the cheap ones first."""
    step("nothing", lambda: None)
    middle = _lookup(root)
    con = step("connect", lambda: session.connect(root, udfs=()))
    step("heatmap's query", lambda: _heatmap(con, middle))
    stages = sql_files.stages(root)
    new = {**STAGES["predictions"], "model_id": "new"}
    label = {"patch_set": lakes.PATCH_SET, "label_rule": "new", "min_covered": 0.5, "kind": "area"}
    for name, what, chosen in (
        ("features", "nothing to do", STAGES["features"]),
        ("predictions", "one slide in 100 to do", STAGES["predictions"]),
        ("predictions", "all to do", new),
        ("labels", "one slide in 10 to do", label),
    ):
        step(f"plan {name}, {what}", partial(pipeline.plan, con, stages[name], chosen, (), False))
    con.close()
    step("repair", lambda: store.repair(root))
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        copy = _writable(root, Path(scratch) / "lake")
        step("commit of a unit, with its ledger", lambda: _commit(copy))
        step("another", lambda: _commit(copy))
        step("checkpoint of features", lambda: _checkpoint(copy), lambda file: file.stat().st_size)
        step("merging the ledger's files", lambda: store.compact(copy, "runs"))
    step("maintain --dry-run", lambda: [*maintenance.plan(root)])


def _lookup(root: Path) -> str:
    """Opening one table, and finding the files of a slide in its middle, whose name is returned."""
    table = step("open features", lambda: store.open_table(root, "features"))
    middle = f"slide {table.version() // 2:07d}"
    step("a slide's files by Delta", lambda: table.file_uris(file_pruning_predicate=[("slide_id", "=", middle)]))
    files = step("index of files", lambda: Files(str(root / "features"), table))
    step("a slide's files by the index", lambda: files.of(middle))
    step("all files are there", lambda: files.missing)
    return middle


def _heatmap(con: session.Connection, slide_id: str) -> None:
    asked = {"slide_id": slide_id, "model_id": lakes.MODEL, "patch_set": lakes.PATCH_SET}
    with of_slide(con, slide_id):
        con.execute(query("app/heatmap_tiles"), asked).pl()


def _writable(root: Path, copy: Path) -> Path:
    """The lake's logs and ledger again, to be written to."""
    for name in TABLES:
        ignored = shutil.ignore_patterns("bucket=*") if name in scale_lake.PARTS else None
        shutil.copytree(root / name, copy / name, ignore=ignored, copy_function=os.link)
    return copy


def _checkpoint(root: Path) -> Path:
    """Write one, and give its file."""
    table = store.open_table(root, "features")
    table.create_checkpoint()
    return root / "features" / "_delta_log" / f"{table.version():020d}.checkpoint.parquet"


def _commit(root: Path) -> None:
    [slide] = slides_of({"bench": PART})
    unit: dict[str, Value] = {"slide_id": slide.slide_id, "bucket": slide.bucket, "part": 0}
    unit |= {"patch_set": lakes.PATCH_SET, "encoder_id": lakes.ENCODER}
    done = store.entry("features", run_id="bench", rows=PART)
    store.replace(root, "features", lakes.unit_rows("features", (slide, 0)), [Replacement(unit)], [done])


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
