"""Trains a model again from the tables as they were then, and compares what comes out with what was recorded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from lake import mlflow_place, models, session, store
from udfs.errors import ModelError

if TYPE_CHECKING:
    from lake.recipe import Recipe
    from lake.selection import Labelled

TOLERANCE = 1e-6  # least difference that counts as one: the last digits differ from processor to processor


@dataclass(frozen=True)
class Metric:
    """A number as MLflow recorded it, and as it came out again; None where it did not."""

    name: str
    recorded: float
    reproduced: float | None

    @property
    def difference(self) -> float | None:
        """By how much it is higher now."""
        return None if self.reproduced is None else self.reproduced - self.recorded

    @property
    def is_equal(self) -> bool:
        """Whether the two are equal but for the last digits."""
        return self.difference is not None and abs(self.difference) <= TOLERANCE


@dataclass(frozen=True)
class Reproduction:
    """What came out. model_id: of the model trained now. software: (name, then, now) of what has another version."""

    model: dict[str, Any]
    model_id: str
    metrics: list[Metric]
    software: list[tuple[str, str, str]]

    @property
    def is_equal(self) -> bool:
        """Whether every metric came out as it was recorded."""
        return all(metric.is_equal for metric in self.metrics)

    @property
    def verdict(self) -> str:
        """What a reader should make of it, in a sentence."""
        changed = ", ".join(f"{name} was {then}, is {now}" for name, then, now in self.software)
        if self.is_equal and self.model_id == self.model["model_id"]:
            return f"reproduced: {len(self.metrics)} metrics and the model itself, {self.model_id}, come out again"
        if self.is_equal:
            why = changed or "processors round differently"
            return f"reproduced: all metrics come out again; the model differs in its last digits ({why})"
        wrong = [metric.name for metric in self.metrics if not metric.is_equal]
        why = changed or "software and table versions are the same, so look at the machine"
        return f"not reproduced: {len(wrong)} of {len(self.metrics)} metrics differ ({', '.join(wrong)}); {why}"


def reproduce(root: Path, wanted: str) -> Reproduction:
    """Train the model anew from its recorded table versions, in memory: neither lake nor MLflow is written to.

    wanted: as for `models.find`. Raises LakeError for a table version that is gone, ModelError for a model or an
    MLflow run that is not there.
    """
    from lake.learning import learn
    from lake.recipe import recipe_of
    from lake.training_log import measures

    row = models.find(root, wanted)
    recorded, shards = _recorded(root, row)
    recipe = recipe_of(row)
    with session.connect(root, udfs=(), at=store.moment(root, json.loads(row["table_versions"]))) as con:
        data = _data(con, recipe, shards)
    learned = learn(data, recipe)
    again = measures(learned, data)
    metrics = [Metric(name, value, again.get(name)) for name, value in sorted(recorded.items())]
    return Reproduction(row, learned.model_id, metrics, _changed_software(root, row))


def _data(con: duckdb.DuckDBPyConnection, recipe: Recipe, shards: int) -> Labelled:
    """The training set, in shards if it was: other sums are rounded otherwise."""
    from lake import training_rows
    from lake.sharded_set import held_here

    if shards == 1:
        return training_rows.training_set(con, recipe)
    parts = training_rows.shards(con, recipe, shards)
    return held_here([training_rows.training_set(con, recipe, part) for part in parts])


def _recorded(root: Path, row: dict[str, Any]) -> tuple[dict[str, float], int]:
    """The training's metrics as MLflow has them, and the number of shards."""
    client = models.tracking(root)
    from mlflow.exceptions import MlflowException

    try:
        data = client.get_run(row["mlflow_run_id"]).data
    except MlflowException:
        raise ModelError(
            f"model {row['model_id']}: MLflow's run {row['mlflow_run_id']} is gone from {mlflow_place.place(root)}, "
            "and with it the metrics to compare with"
        ) from None
    metrics = {name: value for name, value in data.metrics.items() if name.startswith(("train_", "validation_"))}
    return metrics, int(data.params.get("shards", 1))


def _changed_software(root: Path, row: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the model was trained with and has another version now: (name, then, now)."""
    then = {"histolake": row["code_version"]}
    asked_for = mlflow_place.read(root, row["artifact"], "requirements.txt") or b""
    then |= dict(re.findall(r"^([\w.-]+)==(\S+)$", asked_for.decode(), re.MULTILINE))
    now = {name: store.CODE_VERSION if name == "histolake" else _installed(name) for name in then}
    return [(name, then[name], now[name]) for name in then if then[name] != now[name]]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
