"""What is asked of a lake whose writers were killed: whole units for readers, and in the end an undisturbed lake."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lake import checks, creation, mlflow_runs, models, session, storage, store
from lake.tables import TABLES
from udfs.errors import LakeError

UNITS: dict[str, tuple[str, ...]] = {
    "slides": ("slide_id",),
    "annotations": ("slide_id", "source"),
    "patches": ("slide_id", "patch_set"),
    "labels": ("slide_id", "patch_set", "label_rule", "annotation_hash", "part"),
    "features": ("slide_id", "patch_set", "encoder_id", "part"),
    "predictions": ("slide_id", "patch_set", "model_id", "part"),
}
"""Of the tables that stages fill in units: what a unit is."""

DIFFERS: dict[str, Mapping[str, str]] = {
    "models": {
        "uri": "MLflow numbers versions, also those whose training was killed",
        "artifact": "a folder that MLflow draws a name for",
        "mlflow_run_id": "drawn by MLflow",
        "trained_at": "a time",
        "table_versions": "versions",
    },
    "model_files": {"content": "an archive, which has times in it", "sha256": "of content"},
    "metrics": {"mlflow_run_id": "drawn by MLflow", "table_versions": "versions", "measured_at": "a time"},
    "runs": {
        "run_id": "drawn for each call of a command",
        "seconds": "a time",
        "finished_at": "a time",
        "table_version": "a version",
        "input_versions": "versions",
    },
}
"""Columns that differ between two undisturbed lakes, too, and why: they are left out where lakes are compared."""

ENDED_OLD = 30 * 3600  # seconds: longer ago than `histolake maintain --keep-hours 24` waits for a writer


@dataclass(frozen=True)
class Difference:
    """How a table differs from the undisturbed lake's. rows: that were compared."""

    table: str
    rows: int
    lost: int
    other: int
    doubled: int


def frames(root: Path) -> dict[str, pl.DataFrame]:
    """All tables at their newest version, without what `DIFFERS`; of the ledger what it says, however often."""
    found = {name: store.rows(root, name) for name in TABLES}
    runs = found["runs"].filter(~pl.col("parameters").str.contains('"operation"', literal=True))
    found = {name: frame.drop(DIFFERS.get(name, ())) for name, frame in {**found, "runs": runs}.items()}
    return {**found, "runs": found["runs"].unique()}


def differences(found: Mapping[str, pl.DataFrame], wanted: Mapping[str, pl.DataFrame]) -> list[Difference]:
    """Every table, row for row."""
    return [_difference(name, found[name], wanted[name]) for name in wanted]


def _difference(name: str, found: pl.DataFrame, wanted: pl.DataFrame) -> Difference:
    key = [column for column in TABLES[name].key if column in found.columns]
    doubled = 0 if name == "runs" else found.height - found.select(key).unique().height
    here, there = (frame.select(pl.struct(pl.all()).hash().alias("row")) for frame in (found, wanted))
    lost = there.join(here, on="row", how="anti").height
    return Difference(name, wanted.height, lost, here.join(there, on="row", how="anti").height, doubled)


def half_units(root: Path, wanted: Mapping[str, pl.DataFrame]) -> list[str]:
    """What a reader would see that is neither whole nor absent, or that the ledger tells otherwise; sentences.

    Readers are histolake's, at the versions of the ledger, and any other, at the newest of each table. A lake that
    is not made yet has none.
    """
    if not store.is_lake(root) or not creation.is_complete(root):
        return []
    with session.connect(root, udfs=()) as con:
        seen = {name: con.table(name).pl() for name in (*UNITS, "runs")}
    problems = [*_uncounted(seen)]
    for whose, tables in (("histolake", seen), ("Delta", {name: store.rows(root, name) for name in UNITS})):
        for name, unit in UNITS.items():
            whole = wanted[name].group_by(unit).len("whole")
            here = tables[name].group_by(unit).len("here").join(whole, on=unit, how="left", nulls_equal=True)
            broken = here.filter(pl.col("here").ne_missing(pl.col("whole")))
            problems += [f"{whose}: {name} of {row}" for row in broken.rows()]
    return problems


def _uncounted(seen: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    """Units whose rows are others than the ledger's newest entry tells, or of which it tells nothing."""
    runs = seen["runs"].filter(pl.col("slide_id").is_not_null()).sort("finished_at")
    for name, unit in UNITS.items():
        told = runs.filter(stage=name).unique(["slide_id", "identity", "part"], keep="last")
        names = [column for column in unit if column not in ("slide_id", "part")]
        values = [pl.col("identity").str.json_path_match(f"$.{each}").alias(each) for each in names]
        said = told.select("slide_id", "part", "rows", *values)
        keys = list(unit)
        counted = seen[name].group_by(keys).len("here")
        both = said.group_by(keys).agg(pl.col("rows").sum()).join(counted, on=keys, how="full", coalesce=True)
        wrong = both.filter(pl.col("rows").fill_null(-1) != pl.col("here").fill_null(0))
        yield from (f"ledger: {name} of {row}" for row in wrong.rows())


def broken_promises(root: Path) -> list[str]:
    """Names of the checks that find something; none in a lake that is not made yet."""
    try:
        return [each.name for each in checks.check(root) if each.is_broken]
    except LakeError:
        if store.is_lake(root) and creation.is_complete(root) and store.setting(root, "format"):
            raise
        return []


def strays(root: Path) -> list[Path]:
    """Files of tables that are in no log: of commits that never came about, and what was not written to its end."""
    found = []
    for name in TABLES:
        folder = root / name
        named = set()
        for log in folder.glob("_delta_log/*.json"):
            lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
            named |= {line["add"]["path"] for line in lines if "add" in line}
        found += [each for each in folder.rglob("*") if storage.UNFINISHED.search(each.name)]
        found += [
            each
            for each in folder.rglob("*.parquet")
            if "_delta_log" not in each.parts and str(each.relative_to(folder)) not in named
        ]
    return found


def age(root: Path) -> None:
    """Have all files of the lake be a day old and more."""
    then = time.time() - ENDED_OLD
    for file in root.rglob("*"):
        os.utime(file, (then, then))


def unfinished_trainings(root: Path) -> int:
    """MLflow's runs of which it does not know the end.

    Raises ValueError when a model's run is not among the finished, or MLflow's champion is another than the lake's.
    """
    runs = {run.run_id: run for run in mlflow_runs.runs(root)}
    for row in models.rows(root):
        if runs[row["mlflow_run_id"]].status != "FINISHED":
            raise ValueError(f"{root}: the run of model {row['model_id']} has not ended")
    row = models.find(root)
    if models.find(root, "models:/histolake@champion")["model_id"] != row["model_id"]:
        raise ValueError(f"{root}: MLflow has another champion than {row['model_id']}")
    return sum(run.status != "FINISHED" for run in runs.values())
