"""Two models side by side: their metrics, and the slides and patches on which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from lake import bootstrap, models, session
from lake.patch_metrics import resampled
from lake.sql_files import query
from udfs.errors import ModelError

PAIRED = ("auc", "balanced_accuracy")  # metrics whose difference gets an interval


@dataclass(frozen=True)
class Comparison:
    """What differs between models A and B. The frames are the rows of the files of their names in sql/compare.

    paired: per split and metric its values a and b on the patches that both have scored, the difference b - a and
    the 95 % interval of that by bootstrap over slides.
    """

    model_a: dict[str, Any]
    model_b: dict[str, Any]
    patch_set: str
    metrics: pl.DataFrame
    paired: list[dict[str, Any]]
    slides: pl.DataFrame

    @property
    def changed(self) -> pl.DataFrame:
        """The slides that flip, or have patches that do."""
        return self.slides.filter(pl.col("is_flipped") | (pl.col("to_tumor") + pl.col("to_normal") > 0))


def compare(root: Path, a: str, b: str, *, split: str | None = None, slides: Sequence[str] = ()) -> Comparison:
    """Compare two models, see `models.find`, on the tiling that both have scored.

    split, slides (patterns of slide_id): what to keep to. Raises ModelError when there is no such tiling.
    """
    first, second = models.find(root, a), models.find(root, b)
    pair = {"model_a": first["model_id"], "model_b": second["model_id"]}
    if first["model_id"] == second["model_id"]:
        raise ModelError(f"{a} and {b} are the same model, {first['model_id']}; name two")
    with session.connect(root, udfs=()) as con:
        patch_set = _common_tiling(con, pair)
        kept = {**pair, "patch_set": patch_set, "split": split, "slides": list(slides)}
        metrics = con.execute(query("compare/metrics"), {**pair, "split": split}).pl()
        changed = con.execute(query("compare/slides"), kept).pl()
        labelled = con.execute(query("compare/labelled"), kept).pl()
    if changed.is_empty():
        raise ModelError(f"{a} and {b} have both scored {patch_set}, but no slide of that --split and --slide")
    pairs = [row for (_,), rows in labelled.group_by("split", maintain_order=True) for row in paired_metrics(rows)]
    return Comparison(first, second, patch_set, metrics, pairs, changed)


def tiles(root: Path, comparison: Comparison, slide_id: str) -> pl.DataFrame:
    """How each patch of a slide changed: the rows of sql/compare/tiles.sql."""
    with session.connect(root, udfs=()) as con:
        ids = {"model_a": comparison.model_a["model_id"], "model_b": comparison.model_b["model_id"]}
        where = {"slide_id": slide_id, "patch_set": comparison.patch_set}
        return con.execute(query("compare/tiles"), {**ids, **where}).pl()


def _common_tiling(con: duckdb.DuckDBPyConnection, pair: dict[str, str]) -> str:
    if common := con.execute(query("compare/tilings"), pair).fetchone():
        return str(common[0])
    scored = "select distinct patch_set from predictions where model_id = $model order by all"
    told = []
    for model_id in pair.values():
        names = [name for (name,) in con.execute(scored, {"model": model_id}).fetchall()]
        told.append(f"{model_id} has scored {', '.join(names) or 'nothing'}")
    raise ModelError(
        f"models can be compared only on patches that both have scored: {'; '.join(told)}; "
        "`histolake predict --model MODEL` scores every tiling that a model may"
    )


def paired_metrics(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """How AUC and balanced accuracy differ between two models on the same labelled patches of one split.

    rows: as sql/compare/labelled.sql gives them. Both models see the same draws of slides, so that a slide which is
    hard for both does not widen the interval of their difference.
    """
    slides = rows["slide_id"].n_unique()
    once, drawn = np.ones((1, slides), np.int64), bootstrap.weights(slides)
    sides = [_side(rows, name) for name in "ab"]
    values = [resampled(side, once) for side in sides]
    draws = [resampled(side, drawn) for side in sides]
    found = []
    for name in PAIRED:
        a, b = (float(each[name][0]) for each in values)
        low, high = bootstrap.interval(draws[1][name] - draws[0][name])
        known = {"value_a": a, "value_b": b, "difference": b - a}
        numbers = {key: value if np.isfinite(value) else None for key, value in known.items()}
        row = {"split": rows["split"][0], "name": name, **numbers, "low": low, "high": high}
        found.append({**row, "slides": slides, "patches": rows.height})
    return found


def _side(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    columns = {f"probability_{name}": "probability", f"threshold_{name}": "threshold"}
    return rows.select("slide_id", "label", *columns).rename(columns).sort("probability", descending=True)
