"""Camelyon16's lesion task: peaks of heatmaps as detections, and the FROC of what they hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from lake import bootstrap
from lake.choices import Peaks
from lake.compute import reason
from lake.pipeline import Summary, run_stage
from lake.progress import Progress
from lake.sql_files import query, stages
from lake.worker import Executor, local
from udfs.errors import AnnotationError

FUNCTIONS = ("annotated_area", "lesions", "lesions_hit")
"""The SQL functions that a connection for `lesion_metrics` needs."""

LEFT_OUT = ("test_049", "test_114")
"""Slides of Camelyon16 that NCRF leaves out: copies of others, or not annotated in full."""

RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a slide at which the challenge asks for the sensitivity."""


def detect(
    root: Path,
    model_row: Mapping[str, Any],
    *,
    patch_set: str,
    peaks: Peaks | None = None,
    slides: Sequence[str] = (),
    retry_failed: bool = False,
    run_id: str,
    executor: Executor = local,
    progress: Progress | None = None,
) -> Summary:
    """Find the peaks of the model's heatmaps that are new or have changed, and write them to `detections`."""
    parameters = {"model_id": model_row["model_id"], "patch_set": patch_set, **(peaks or Peaks()).parameters}
    return run_stage(
        root,
        stages(root)["detections"],
        parameters,
        run_id=run_id,
        slides=slides,
        retry_failed=retry_failed,
        executor=executor,
        progress=progress,
    )


def lesion_metrics(
    con: duckdb.DuckDBPyConnection,
    model_row: Mapping[str, Any],
    *,
    patch_set: str,
    peaks: Peaks | None = None,
    mpp: float | None = None,
    left_out: Sequence[str] = LEFT_OUT,
) -> pl.DataFrame:
    """The lesion task's numbers of a model whose peaks are in `detections`, see sql/metrics/froc.sql.

    con: with the functions FUNCTIONS. mpp: microns per pixel of every slide, to compare with published
    numbers; None for each slide's own. Returns split, name, value, low, high, the 95 % interval by
    bootstrap over slides; counts have none. Empty where no slide can be evaluated.
    """
    found = findings(con, model_row, patch_set=patch_set, peaks=peaks, mpp=mpp)
    measured = froc(con, found, left_out)
    bounds = [
        {"split": split, "name": name, "low": low, "high": high}
        for (split,), rows in found.group_by("split", maintain_order=True)
        for name, (low, high) in intervals(rows, left_out).items()
    ]
    schema = {"split": pl.String, "name": pl.String, "low": pl.Float64, "high": pl.Float64}
    return measured.join(pl.DataFrame(bounds, schema), on=["split", "name"], how="left", maintain_order="left")


def findings(
    con: duckdb.DuckDBPyConnection,
    model_row: Mapping[str, Any],
    *,
    patch_set: str,
    peaks: Peaks | None = None,
    mpp: float | None = None,
) -> pl.DataFrame:
    """What counts: slides, lesions with their highest hit, false positives; see sql/metrics/findings.sql.

    Raises AnnotationError when a slide's annotations cannot be united.
    """
    parameters = {"model_id": model_row["model_id"], "patch_set": patch_set, "mpp": mpp}
    try:
        return con.execute(query("metrics/findings"), {**parameters, **(peaks or Peaks()).parameters}).pl()
    except duckdb.InvalidInputException as failure:
        if "AnnotationError: " not in str(failure):
            raise
        which = "`histolake sql \"from runs where stage = 'labels' and status = 'failed'\"` tells which slide's"
        raise AnnotationError(f"lesions cannot be told: {reason(failure)}; {which}") from failure


def froc_curve(
    con: duckdb.DuckDBPyConnection, findings: pl.DataFrame, left_out: Sequence[str] = LEFT_OUT
) -> pl.DataFrame:
    """The points of the curve, per split and variant; see sql/metrics/froc_curve.sql."""
    con.register("findings", findings.to_arrow())
    lower = [name.lower() for name in left_out]
    curve = con.execute(query("metrics/froc_curve"), {"left_out": lower}).pl()
    con.unregister("findings")
    return curve


def froc(con: duckdb.DuckDBPyConnection, findings: pl.DataFrame, left_out: Sequence[str] = LEFT_OUT) -> pl.DataFrame:
    """The numbers that follow from the findings: split, name, value; see sql/metrics/froc.sql."""
    con.register("froc_curve", froc_curve(con, findings, left_out).to_arrow())
    con.register("findings", findings.to_arrow())
    measured = con.execute(query("metrics/froc")).pl()
    con.unregister("findings")
    con.unregister("froc_curve")
    return measured


# -- the same numbers for slides that are drawn with replacement


@dataclass(frozen=True)
class Events:
    """What counts in one split, by falling probability: the slide of each event and whether it finds a lesion.

    ends: the last event of every distinct probability. lesions: of each slide. is_kept: slides of NCRF's variant.
    """

    slide: NDArray[np.int64]
    is_lesion: NDArray[np.bool_]
    ends: NDArray[np.int64]
    lesions: NDArray[np.int64]
    is_kept: NDArray[np.bool_]


def intervals(
    findings: pl.DataFrame, left_out: Sequence[str] = LEFT_OUT
) -> dict[str, tuple[float | None, float | None]]:
    """The 95 % interval, by name, of every number of one split's findings that is no count."""
    counted = events(findings, left_out)
    drawn = [resampled(counted, weights) for weights in bootstrap.weights(len(counted.lesions))]
    names = drawn[0] if drawn else ()
    return {name: bootstrap.interval(np.array([values[name] for values in drawn])) for name in names}


def events(findings: pl.DataFrame, left_out: Sequence[str]) -> Events:
    """The findings of one split as `resampled` wants them; slides are in the order of their ids."""
    slides = findings.filter(kind="slide")["slide_id"].sort()
    number = pl.col("slide_id").replace_strict(slides, np.arange(len(slides)), return_dtype=pl.Int64)
    counted = findings.filter(pl.col("kind").is_in(["lesion", "false positive"])).with_columns(number.alias("slide"))
    ranked = counted.drop_nulls("probability").sort("probability", descending=True)
    lower = [name.lower() for name in left_out]
    return Events(
        slide=ranked["slide"].to_numpy(),
        is_lesion=(ranked["kind"] == "lesion").to_numpy(),
        ends=np.flatnonzero(np.diff(ranked["probability"].to_numpy(), append=-1.0)),
        lesions=np.bincount(counted.filter(kind="lesion")["slide"].to_numpy(), minlength=len(slides)),
        is_kept=~slides.str.to_lowercase().is_in(lower).to_numpy(),
    )


def resampled(events: Events, weights: NDArray[np.int64]) -> dict[str, float]:
    """The numbers of sql/metrics/froc.sql when each slide counts as often as its weight says; NaN without lesions."""
    reached, interpolated = _at_rates(events, weights)
    if not events.is_kept.all():
        interpolated = _at_rates(events, weights * events.is_kept)[1]
    at_rates = {f"sensitivity_at_{rate:g}": float(value) for rate, value in zip(RATES, reached, strict=True)}
    return {**at_rates, "froc": float(reached.mean()), "froc_ncrf": float(interpolated.mean())}


def _at_rates(events: Events, weights: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sensitivity at RATES: the highest that is reached, and as NCRF interpolates it; each (6,)."""
    slides, lesions = weights.sum(), weights @ events.lesions
    if not lesions:
        return np.full(len(RATES), np.nan), np.full(len(RATES), np.nan)
    drawn = weights[events.slide]
    found = np.append(0, np.cumsum(drawn * events.is_lesion)[events.ends]) / lesions
    mistaken = np.append(0, np.cumsum(drawn * ~events.is_lesion)[events.ends]) / slides
    rates = np.array(RATES)
    before = np.searchsorted(mistaken, rates, side="right") - 1
    after = np.minimum(before + 1, len(mistaken) - 1)  # behind the curve's end it goes on as it is
    width = np.where(after > before, mistaken[after] - mistaken[before], 1.0)
    rise = (found[after] - found[before]) * (rates - mistaken[before]) / width
    return found[before], found[before] + rise
