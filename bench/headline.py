"""The table at the top of docs/benchmarks.md: the cluster's workflow, and ours from figures of bench/results.json.

The cluster's figures are of Databricks' article "Automating Digital Pathology Image Analysis with Machine Learning on
Databricks" (2020), its machines AWS r4.4xlarge of 16 virtual processors. Prices are Amazon's list prices on demand, in
its region us-east-1, in 2025; Databricks' own fee comes on top of the cluster's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import report

PATCHES = 174_000
WORKERS, WORKER_PRICE = (2, 10), 1.064  # dollars an hour
PRICE = {"AMX": 0.0893, "": 0.1026}  # of a c7i.large or a c7a.large, of 2 processors: dollars an hour
CROPPING, TRAINING = 10, 25  # the cluster's minutes
SCORING = 15  # the cluster's seconds a slide
CUT = ", with cutting out: no patch is a file"
ACCURACY = "87 %, patches split at random"


def table(results: Mapping[str, Any]) -> str:
    """The table, with what was measured so far."""
    crops = figure(results, "crop", "crop at 299 px, gridded")
    wholes = figures(results, "slide", f"{PATCHES:,} patches cropped")
    slide = figure(results, "slide", "unseen slide to heatmap")
    price = PRICE["AMX" if "AMX" in results_machine(results) else ""]
    cropping = None if crops is None else PATCHES / crops["value"] / 60
    least, most = (count * WORKER_PRICE * (CROPPING + TRAINING) / 60 for count in WORKERS)
    rows = [
        ("174,000 patches cut out", f"{CROPPING} minutes", "" if cropping is None else f"{cropping:.1f} minutes"),
        (
            "their InceptionV3 features, and a model trained on them",
            f"{TRAINING} minutes",
            "; ".join(f"{each['value']:.0f} minutes in {_precision(each)}" for each in wholes) + CUT if wholes else "",
        ),
        ("a new slide scored", f"{SCORING} s", "" if slide is None else f"{slide['value']:.0f} s: {slide['what']}"),
        ("accuracy", ACCURACY, "[by slides that were held out](accuracy.md)"),
        ("machines", "2 to 10 of 16 virtual processors and 122 GB", results_machine(results)),
        ("an hour of them", f"${WORKERS[0] * WORKER_PRICE:.2f} to ${WORKERS[1] * WORKER_PRICE:.2f}", f"${price:.2f}"),
        (
            "the first two lines",
            f"${least:.2f} to ${most:.2f}",
            "; ".join(f"${each['value'] / 60 * price:.2f} in {_precision(each)}" for each in wholes),
        ),
    ]
    remarks = [f"\n\nFeatures and training in {each['note']}." for each in wholes]
    return report.grid(("", "Databricks' cluster", "histolake"), rows) + "".join(remarks)


def _precision(whole: Mapping[str, Any]) -> str:
    return str(whole["note"]).partition(",")[0]


def results_machine(results: Mapping[str, Any]) -> str:
    """The machine that the slide was measured on."""
    return str(results.get("slide", {}).get("machine", "")).partition(", Python")[0]


def figure(results: Mapping[str, Any], part: str, start: str) -> Mapping[str, Any] | None:
    """The first figure of a part whose name begins so, if it was measured."""
    return next(iter(figures(results, part, start)), None)


def figures(results: Mapping[str, Any], part: str, start: str) -> list[Mapping[str, Any]]:
    """The figures of a part whose names begin so, as far as they were measured."""
    kept = results.get(part, {}).get("figures", [])
    return [each for each in kept if each["what"].startswith(start) and each["value"] is not None]
