"""Peaks of heatmaps: the SQL beside ten lines of Python, and as a stage of a lake."""

from __future__ import annotations

import dataclasses
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TestLake

from lake import lesions, models, store
from lake.sql_files import query
from lake.tables import PREDICTIONS
from udfs.errors import HistolakeError

ENTRY = store.entry("predictions", run_id="test")
MPP = {"mpp_x": 0.25, "mpp_y": 0.5}  # not the same across and down: lengths are microns

places = st.tuples(st.integers(-400, 4000), st.integers(-200, 2000))
patches = st.dictionaries(places, st.integers(1, 6).map(lambda k: k / 6), min_size=1, max_size=60)


def peaks(heatmap: dict[tuple[float, float], float], **parameters: float) -> list[tuple[float, float, float]]:
    """(x, y, probability) of detections, highest first."""
    key = {"slide_id": "s", "patch_set": "p", "model_id": "m", "fingerprint": "f", "bucket": 0}
    rows = [{**key, "x": float(x), "y": float(y), **MPP, "probability": p} for (x, y), p in heatmap.items()]
    with duckdb.connect() as con:
        con.register("heatmaps", pl.DataFrame(rows).to_arrow())
        found = con.execute(query("detections"), lesions.Peaks(**parameters).parameters)
        return found.pl().select("x", "y", "probability").rows()


def one_by_one(heatmap: dict[tuple[float, float], float], radius: float, least: float) -> list[tuple[float, float]]:
    """Greedy non-maximum suppression as it is usually written."""
    left = {place: p for place, p in heatmap.items() if p >= least}
    kept = []
    while left:
        x, y = top = min(left, key=lambda place: (-left[place], place[1], place[0]))
        kept.append(top)
        near = {q for q in left if (MPP["mpp_x"] * (q[0] - x)) ** 2 + (MPP["mpp_y"] * (q[1] - y)) ** 2 <= radius**2}
        left = {place: p for place, p in left.items() if place not in near}
    return kept


@settings(deadline=None, max_examples=40, derandomize=True)
@given(heatmap=patches, radius=st.sampled_from([1.0, 60.0, 187.5, 5000.0]), least=st.sampled_from([0.0, 0.4]))
def test_peaks_are_those_of_suppressing_one_by_one(heatmap, radius, least):
    found = peaks(heatmap, radius_um=radius, min_probability=least)
    assert [(x, y) for x, y, _ in found] == one_by_one(heatmap, radius, least)
    assert all(heatmap[x, y] == pytest.approx(p, abs=1e-12) for x, y, p in found)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(heatmap=patches, sigma=st.sampled_from([0.5, 40.0, 300.0]))
def test_smoothing_is_the_weighted_mean_of_the_patches_within_three_sigma(heatmap, sigma):
    found = peaks(heatmap, radius_um=1e-3, smoothing_um=sigma, min_probability=0)
    places = np.array(list(heatmap), float) * list(MPP.values())
    values = np.array(list(heatmap.values()))
    for x, y, probability in found:
        squared = ((places - np.array([x, y]) * list(MPP.values())) ** 2).sum(axis=1)
        weights = np.exp(-squared / (2 * sigma**2)) * (squared <= (3 * sigma) ** 2)
        assert probability == pytest.approx((weights * values).sum() / weights.sum(), abs=1e-9)


def test_a_plateau_and_a_slope_have_peaks_a_radius_apart():
    """The longest ways for a decision to travel: every patch waits for the one before it."""
    plateau = {(400.0 * i, 0.0): 0.7 for i in range(300)}  # 100 microns apart
    slope = {place: 0.9 - number / 1000 for number, place in enumerate(plateau)}
    for heatmap in (plateau, slope):
        assert [x for x, _, _ in peaks(heatmap, radius_um=250)] == [1200.0 * i for i in range(100)]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"radius_um": 0}, "radius of detections, 0 microns: must be above 0"),
        ({"radius_um": float("nan")}, "radius of detections, nan"),
        ({"smoothing_um": -1}, "smoothing of heatmaps, -1 microns: must be 0 or above"),
        ({"min_probability": 1.5}, "lowest probability of detections, 1.5: must be from 0 to 1"),
    ],
)
def test_lengths_and_probabilities_that_cannot_be_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(HistolakeError, match=says):
        lesions.Peaks(**wrong)


def test_detections_are_made_once_for_every_choice_and_anew_when_the_heatmap_has_grown(full_lake: TestLake) -> None:
    root, row = full_lake.root, models.find(full_lake.root, None)

    def detect(peaks: lesions.Peaks | None = None) -> int:
        return lesions.detect(root, row, patch_set=row["patch_set"], peaks=peaks, run_id="test").units

    assert detect() == 0  # `evaluate` has made them
    assert (detect(lesions.Peaks(300, 50, 0)), detect(lesions.Peaks(300.0, 50.0, 0.0))) == (6, 0)
    found = full_lake.read("detections")
    assert set(found.select("radius_um", "smoothing_um", "min_probability").rows()) == {
        (187.0, 0.0, 0.1),
        (300.0, 50.0, 0.0),
    }
    predictions = full_lake.read("predictions").filter(slide_id="tumor_1")
    best = predictions.sort("probability", "y", "x", descending=[True, False, False]).row(0, named=True)
    top = found.filter(slide_id="tumor_1", smoothing_um=0.0).sort("probability").row(-1, named=True)
    assert (top["x"], top["y"]) == (best["x"] + 32, best["y"] + 32)
    assert top["probability"] == pytest.approx(best["probability"], abs=1e-12)
    fewer = predictions.filter(pl.col("x") < best["x"])
    table = fewer.to_arrow().cast(PREDICTIONS.schema)
    store.replace(root, "predictions", table, [store.Replacement({"slide_id": "tumor_1"})], [ENTRY])
    assert (detect(), detect()) == (1, 0)
    left = full_lake.read("detections").filter(slide_id="tumor_1", smoothing_um=0.0)["x"]
    assert left.max() < best["x"]


def test_peaks_that_could_not_be_found_wait_until_evaluate_is_asked_to_try_again(full_lake: TestLake) -> None:
    def newest() -> dict[str, Any]:
        entries = full_lake.read("runs").filter(stage="detections", slide_id="tumor_1")
        return entries.sort("finished_at").row(-1, named=True)

    unit = {name: newest()[name] for name in ("slide_id", "identity", "part", "fingerprint")}
    failed = store.entry("detections", run_id="a test")
    store.record(full_lake.root, [dataclasses.replace(failed, **unit, status="failed", error="no memory")])
    full_lake.ok("evaluate")
    assert newest()["status"] == "failed"
    full_lake.ok("evaluate", "--retry-failed")
    assert newest()["status"] == "ok"


def test_run_leaves_detections_to_evaluation(full_lake: TestLake) -> None:
    assert "no such stage" in full_lake("run", *full_lake.tiling, "--stage", "detections").err
    assert "detections" not in {stage["stage"] for stage in full_lake.ok("run", *full_lake.tiling, "--json").json()}
