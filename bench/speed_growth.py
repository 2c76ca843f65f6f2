"""What grows with the lake, one axis at a time: slides, patches a slide, predictions; and what planning takes.

Every lake is generated (bench/lakes.py) and measured in a process of its own, whose memory it is. Pixels are not the
point: the unit of work is one of the stage `labels`, on a slide that is normal as a whole.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lakes
import race
from lake_rows import PART, Slide, slides_of
from race import Figure

from lake import creation, pipeline, session, sql_files, store
from lake.choices import Peaks
from lake.slide_scores import TOP
from lake.sql_files import query
from lake.store import Replacement, Value
from lake.table_files import of_slide

SLIDES = (1, 10, 100)  # of 10,000 patches each
PATCHES = (1_000, 10_000, 100_000)  # on each of 10 slides
PREDICTIONS = (1_000_000, 10_000_000, 100_000_000)  # on slides of 100,000 patches
HEATMAP_S = 0.3
PLANNED = 100  # slides of 10,000 patches, to be planned
PLANNING_S = 2.0

LOGS = (10, 1_000, 10_000)  # entries of a table's log

STAGES: dict[str, dict[str, Any]] = {
    "features": {"patch_set": lakes.PATCH_SET, "encoder_id": lakes.ENCODER, "input_px": 224},
    "predictions": {"patch_set": lakes.PATCH_SET, "encoder_id": lakes.ENCODER, "model_id": lakes.MODEL},
}


def measure(folder: Path) -> list[Figure]:
    """Lines of the table; lakes are generated into the folder unless they are there."""
    figures = []
    for axis, shapes in (
        ("slides of 10,000 patches", {count: (count, 10_000) for count in SLIDES}),
        ("patches on each of 10 slides", {count: (10, count) for count in PATCHES}),
        ("predictions", {count: (count // 100_000, 100_000) for count in PREDICTIONS}),
    ):
        for count, (slides, patches) in shapes.items():
            figures += _of_lake(f"{count:,} {axis}", _lake(folder, slides, patches))
    return [*figures, *_planning(folder), *_commits(folder)]


def _lake(folder: Path, slides: int, patches: int) -> Path:
    root = folder / f"lake-{slides}x{patches}"
    return root if lakes.is_whole(root) else lakes.write(root, lakes.alike(slides, patches))


def _of_lake(name: str, root: Path) -> list[Figure]:
    ran = race.in_process([__file__, str(root)])
    facts: dict[str, float] = json.loads(ran.output.splitlines()[-1])
    bar = HEATMAP_S if name == f"{PREDICTIONS[-1]:,} predictions" else None
    return [
        Figure(f"{name}: opening the lake", "s", facts["connect"]),
        Figure(f"{name}: a slide's heatmap, its query", "s", facts["heatmap"], at_most=bar),
        Figure(f"{name}: worklist, its query", "s", facts["worklist"]),
        Figure(f"{name}: planning labels", "s", facts["plan"]),
        Figure(f"{name}: a unit of labels and its share of the run", "s", facts["unit"]),
        Figure(f"{name}: commit of 8,192 predictions, with its ledger", "s", facts["commit"]),
        Figure(f"{name}: most memory of the process", "MB", ran.peak / 2**20),
    ]


def facts(root: Path) -> dict[str, float]:
    """Seconds that the lake takes, in this process."""
    found = {"connect": race.seconds(lambda: session.connect(root, udfs=()))}
    with session.connect(root) as con:
        names = [name for (name,) in con.execute("select slide_id from slides order by md5(slide_id)").fetchall()]
        slides = iter(names * race.ROUNDS)
        found["heatmap"] = race.seconds(lambda: _heatmap(con, next(slides)))
        listed = {**Peaks().parameters, "top": TOP}
        found["worklist"] = race.seconds(lambda: con.execute(query("app/worklist"), listed).pl())
        stage, parameters = sql_files.stages(root)["labels"], _rule("bench")
        found["plan"] = race.seconds(lambda: pipeline.plan(con, stage, parameters, (), False), 1)
        [(normal,)] = con.execute("select min(slide_id) from slides where label = 'normal'").fetchall()
    # a rule of another name each time: else it would be done
    start = time.perf_counter()
    done = pipeline.run_stage(root, stage, _rule(f"bench {uuid.uuid4()}"), run_id="bench", slides=[normal])
    found["unit"] = (time.perf_counter() - start) / done.units
    [slide] = slides_of({"bench": PART})
    found["commit"] = race.seconds(_commit(root, slide))
    return found


def _rule(name: str) -> dict[str, Any]:
    return {"patch_set": lakes.PATCH_SET, "label_rule": name, "min_covered": 0.5, "kind": "area"}


def _heatmap(con: session.Connection, slide_id: str) -> None:
    """As the app runs it, see viewer/slides.py."""
    asked = {"slide_id": slide_id, "model_id": lakes.MODEL, "patch_set": lakes.PATCH_SET}
    with of_slide(con, slide_id):
        con.execute(query("app/heatmap_tiles"), asked).pl()


def _commit(root: Path, slide: Slide) -> Callable[[], None]:
    rows = lakes.unit_rows("predictions", (slide, 0))
    unit: dict[str, Value] = {"slide_id": slide.slide_id, "bucket": slide.bucket, "part": 0}
    unit |= {"patch_set": lakes.PATCH_SET, "model_id": lakes.MODEL}
    entry = store.entry("predictions", run_id="bench", rows=rows.num_rows)
    return lambda: store.replace(root, "predictions", rows, [Replacement(unit)], [entry])


def _planning(folder: Path) -> list[Figure]:
    """A million patches of which one in a hundred is missing: scattered units, and the patches of one slide."""
    root = folder / "lake-planned"
    slides = lakes.alike(PLANNED, 10_000)
    units = [lakes.units_of([slide]) for slide in slides]
    if not lakes.is_whole(root):
        creation.create(root)
        lakes.add_choices(root)
        lakes.add_slides(root, slides)
        lakes.add_units(root, "patches", [unit for each in units for unit in each])
        lakes.add_units(root, "features", [unit for each in units[1:] for unit in each])
        predicted = [each[:1] if number % 20 == 7 else each for number, each in enumerate(units)]
        lakes.add_units(root, "predictions", [unit for each in predicted for unit in each])
        lakes.finish(root)
    stages, found = sql_files.stages(root), []
    with session.connect(root, udfs=()) as con:
        for name, missing in (("features", "the patches of one slide"), ("predictions", "units here and there")):
            planned = partial(pipeline.plan, con, stages[name], STAGES[name], (), False)
            share = sum(unit.rows for unit in planned()) / (PLANNED * 10_000)
            what = f"planning {name} of 1,000,000 patches; missing: {missing}"
            found.append(Figure(what, "s", race.seconds(planned), at_most=PLANNING_S, note=f"{share:.1%} missing"))
    return found


def _commits(folder: Path) -> list[Figure]:
    """A commit of 8,192 predictions to a table whose log has so many entries, with and without Delta's checkpoints."""
    found, root = [], folder / "lake-log"
    [slide] = slides_of({"bench": PART})
    for entries in LOGS:
        for has_checkpoint in (True, False):
            shutil.rmtree(root, ignore_errors=True)
            lakes.write_log(root, entries, has_checkpoint=has_checkpoint)
            what = f"a log of {entries:,} commits, {'with a' if has_checkpoint else 'no'} checkpoint"
            opened = race.seconds(partial(store.open_table, root, "predictions"))
            found.append(Figure(f"{what}: opening the table", "s", opened))
            found.append(Figure(f"{what}: another commit, with its ledger", "s", race.seconds(_commit(root, slide))))
    shutil.rmtree(root)
    return found


if __name__ == "__main__":
    print(json.dumps(facts(Path(sys.argv[1]))))
