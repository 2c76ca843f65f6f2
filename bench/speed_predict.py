"""Times SQL's predict on stored embeddings beside merely reading them, and `histolake predict`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import feature_lake
import race
from race import OURS, Figure

from lake import models, session, store
from lake.recipe import Recipe
from lake.train import train

DIMS, PATCHES = 1280, 8_000  # of a slide
FEW, MANY = 3, 30  # slides
READING, DATASET = "DuckDB reads", "DuckDB reads PyArrow's dataset"
MB = 1e6

STATEMENT = """
import sys
from lake import session
with session.connect(sys.argv[1]) as con:
    print(con.execute("select sum(predict($model, embedding)) from features", {"model": sys.argv[2]}).fetchall())
"""
COMMAND = """
import json, sys
from pathlib import Path
from lake import workflow
_, done = workflow.predict(Path(sys.argv[1]), run_id="bench")
print(json.dumps({"rows": done[0].rows, "seconds": done[0].seconds, "failures": done[0].failures}))
"""


def measure(folder: Path) -> list[Figure]:
    """Rows a second of predicting and of reading, and that memory does not grow with the rows."""
    few, many = (_lake(folder, slides) for slides in (FEW, MANY))
    statements = [race.in_process(["-c", STATEMENT, str(root), str(models.champion(root))]) for root in (few, many)]
    with TemporaryDirectory(dir=folder) as scratch:
        copies = [feature_lake.copy(root, Path(scratch) / root.name) for root in (few, many)]
        commands = [race.in_process(["-c", COMMAND, str(root)]) for root in copies]
    told = json.loads(commands[1].output)
    what = f"of {DIMS:,} numbers, logistic"
    return [
        *_rates(many),
        _memory(f"its peak memory, {MANY} slides beside {FEW}", statements),
        Figure(f"`histolake predict`, embeddings {what}", "rows/s", told["rows"] / told["seconds"]),
        _memory(f"its peak memory, {MANY} slides beside {FEW}", commands),
    ]


def _lake(folder: Path, slides: int) -> Path:
    """A lake with that many slides and a champion; most slides are for test, so that it is soon trained."""
    root = folder / f"predict-{DIMS}-{slides}"
    if not root.exists():
        splits = {"train": 1, "validation": 1, "test": slides - 2}
        feature_lake.write(root, splits, PATCHES, DIMS)
        train(root, Recipe(feature_lake.PATCH_SET, feature_lake.ENCODER, "centre"), run_id="bench")
    return root


def _rates(root: Path) -> list[Figure]:
    with session.connect(root) as con:
        con.register("dataset", store.open_table(root, "features").to_pyarrow_dataset())
        rows = MANY * PATCHES
        model = {"model": models.champion(root)}
        measured = race.rates(
            {
                OURS: _summed(con, rows, "select sum(predict($model, embedding)) from features", model),
                READING: _summed(con, rows, "select sum(embedding[1]) from features"),
                DATASET: _summed(con, rows, "select sum(embedding[1]) from dataset"),
            }
        )
    what = f"SQL predict, embeddings of {DIMS:,} numbers, logistic"
    reading = {OURS: measured[READING], DATASET: measured[DATASET]}
    return [
        *race.against(what, "rows/s", measured, {READING: 0.7}),
        *race.against("reading them in SQL", "rows/s", reading, {DATASET: 2}),
    ]


def _summed(
    con: duckdb.DuckDBPyConnection, rows: int, statement: str, parameters: dict[str, str | None] | None = None
) -> Callable[[], int]:
    def work() -> int:
        con.execute(statement, parameters or {}).fetchall()
        return rows

    return work


def _memory(what: str, ran: list[race.Ran]) -> Figure:
    """The peak on many slides; the bar is a fifth above that on few."""
    few, many = (each.peak / MB for each in ran)
    return Figure(what, "MB", many, f"{FEW} slides", few, at_most=1.2 * few)
