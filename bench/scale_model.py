"""A million slides on paper: arithmetic over what bench/scale_sim.py and bench/speed.py measured.

What nobody measured here is a parameter, named below with its source: prices, the size of a slide, and how many slides
a lake would have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import headline
import race
import report
from scale_lake import PATCHES

SLIDES = 1_000_000
SLIDE_GB = 1.5  # a slide file of Camelyon16: about 700 GB in 400 slides, as its authors say
STORAGE = (
    0.023  # dollars a GB and month: Amazon's list price of S3 Standard, us-east-1, as of 2025; not looked up again
)
WORKERS = (1, 16, 100, 1_000)  # machines like the one that was measured
CHECKPOINT = 100  # commits from one of Delta's checkpoints to the next
GROUP = 64  # slides of a commit, where commits are grouped
FILE_BYTES = 32 * 2**20
HOUR, TB = 3600.0, 1e12


@dataclass(frozen=True)
class Stage:
    """What a stage leaves: bytes a row; files a slide, as written and as `maintain` leaves them; slides a second."""

    name: str
    row_bytes: float
    files: float
    files_merged: float
    rate: float


@dataclass(frozen=True)
class Log:
    """What grows with a lake: seconds, and bytes of memory and of a checkpoint, for each file of a table or slide."""

    commit: float
    commit_a_file: float
    open_a_file: float
    memory_a_file: float
    checkpoint_a_file: float
    connect_a_slide: float
    plan_a_slide: float


def tables(kept: Mapping[str, Any], speed: Mapping[str, Any]) -> dict[str, str]:
    """The parts of docs/scale.md that are arithmetic."""
    log, stages = _log(kept["sizes"]), _stages(kept["constants"], speed)
    return {
        "constants": _constants(kept["constants"], log),
        "storage": _storage(stages, log),
        "engines": _engines(stages, log),
    }


def _log(sizes: Mapping[str, Any]) -> Log:
    """From the two largest sizes that were measured to their end."""
    done = [(int(size) * 2, {step["step"]: step for step in each["steps"]}) for size, each in sizes.items()
            if not each["ended"]]  # fmt: skip
    (few, small), (many, large) = sorted(done, key=lambda each: each[0])[-2:]

    def slope(step: str, what: str = "cpu") -> float:
        return float(large[step][what] - small[step][what]) / (many - few)

    commit = slope("another")
    return Log(
        max(0.0, small["another"]["cpu"] - commit * few),
        commit,
        slope("open features"),
        (large["open features"]["memory"] - large["nothing"]["memory"]) / many * 2**20,
        large["checkpoint of features"]["bytes"] / many,
        slope("connect") * 2,
        slope("plan predictions, all to do") * 2,
    )


def _stages(constants: Mapping[str, float], speed: Mapping[str, Any]) -> list[Stage]:
    scored = headline.figure(speed, "slide", "unseen slide to heatmap")
    if scored is None:
        raise ValueError("bench/results.json: the part slide was not measured")
    patches = _said(r"([\d,]+) patches", scored["what"])
    run = _said(r"run ([\d.]+) s", scored["note"])
    embedded = {dims: _value(speed, "embed", f"features of {name}, fp32") for dims, name in
                ((1280, "efficientnet_lite0"), (2048, "inception_v3"))}  # fmt: skip
    found = [_small("patches", 1, constants, 1 / max(1.0, run - patches / embedded[1280]))]
    for dims, rate in embedded.items():
        row = constants[f"features of {dims} numbers, bytes a row"]
        left = 1 + constants[f"features of {dims} numbers, 12 small files become"] / 12
        found.append(Stage(f"features, {dims} numbers", row, 2, left, rate / PATCHES))
    predicted = _value(speed, "predict", "`histolake predict`, embeddings of 1,280")
    return [*found, _small("predictions", 2, constants, predicted / PATCHES)]


def _said(pattern: str, text: str) -> float:
    """The number that the figure's words tell."""
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"bench/results.json: {text!r} tells no {pattern}")
    return float(found[1].replace(",", ""))


def _small(name: str, files: int, constants: Mapping[str, float], rate: float) -> Stage:
    row = constants[f"{name}, bytes a row, merged"]
    return Stage(name, row, files, row * PATCHES / FILE_BYTES, rate)


def _value(speed: Mapping[str, Any], part: str, start: str) -> float:
    figure = headline.figure(speed, part, start)
    if figure is None:
        raise ValueError(f"bench/results.json: no figure {start!r}")
    return float(figure["value"])


def _constants(constants: Mapping[str, float], log: Log) -> str:
    rows = [(name, f"{value:,.3g}" if value < 1000 else f"{value:,.0f}") for name, value in constants.items()]
    rows += [
        ("a file in a log: microseconds to open the table", f"{log.open_a_file * 1e6:.3g}"),
        ("a file in a log: bytes of memory while the table is open", f"{log.memory_a_file:,.0f}"),
        ("a file in a log: microseconds of every commit", f"{log.commit_a_file * 1e6:.3g}"),
        ("a file in a log: bytes of a checkpoint", f"{log.checkpoint_a_file:,.0f}"),
        ("a commit to an empty table, with its ledger, s", f"{log.commit:.3g}"),
        ("a slide, five files: microseconds to open the lake", f"{log.connect_a_slide * 1e6:.3g}"),
        ("a slide, two units: microseconds to plan predictions", f"{log.plan_a_slide * 1e6:.3g}"),
    ]
    return report.grid(("constant", "measured"), rows)


def _storage(stages: list[Stage], log: Log) -> str:
    rows = []
    for each in stages:
        stored = each.row_bytes * PATCHES * SLIDES
        files, merged = each.files * SLIDES, each.files_merged * SLIDES
        rows.append(
            (
                each.name,
                f"{stored / TB:,.2g} TB",
                f"${stored / 1e9 * STORAGE:,.0f}",
                f"{files:,.0f}",
                f"{merged:,.0f}",
                f"{files * log.open_a_file:,.1f} s",
                f"{merged * log.open_a_file:,.2f} s",
                f"{files * log.checkpoint_a_file / 1e9:,.2f} GB",
                f"{SLIDES / CHECKPOINT * files / 2 * log.checkpoint_a_file / TB:,.1f} TB",
                f"{SLIDES / CHECKPOINT * merged / 2 * log.checkpoint_a_file / TB:,.2f} TB",
            )
        )
    columns = ("table", "stored", "a month", "files", "files, maintained", "opened in", "opened in, maintained")
    more = ("a checkpoint", "all checkpoints", "all checkpoints, maintained")
    whole = (
        "Opening a lake as written, of patches, one kind of features and predictions, takes "
        f"{SLIDES * log.connect_a_slide:.0f} s of processor time, and "
        f"planning its predictions {SLIDES * log.plan_a_slide:.0f} s where none is done."
    )
    return f"{report.grid((*columns, *more), rows)}\n\n{whole}"


def _engines(stages: list[Stage], log: Log) -> str:
    price = headline.PRICE[""]
    rows = []
    for each in stages:
        hours = SLIDES / each.rate / HOUR
        serial = {
            "as written": _committing(log, SLIDES, each.files * SLIDES),
            "maintained": _committing(log, SLIDES, each.files_merged * SLIDES),
            "grouped": _committing(log, SLIDES / GROUP, each.files_merged * SLIDES),
        }
        gigabits = SLIDE_GB * 8 * each.rate
        rows.append(
            (
                each.name,
                f"${hours * price:,.0f}",
                *(race.amount(hours / count / 24) for count in WORKERS),
                *(race.amount(seconds / HOUR / 24) for seconds in serial.values()),
                f"{hours * HOUR / serial['maintained']:,.0f}",
                f"{hours * HOUR / serial['grouped']:,.0f}",
                f"{gigabits:.2g}" if "features" in each.name or each.name == "patches" else "none",
            )
        )
    columns = ("stage", "cost", *(f"days, {count:,} machine{'s' * (count > 1)}" for count in WORKERS))
    more = ("days of commits, one after another", "maintained", f"and {GROUP} slides a commit")
    ceilings = ("machines that such commits can feed", "and grouped", "Gbit/s of slides a machine, at most")
    return report.grid((*columns, *more, *ceilings), rows)


def _committing(log: Log, commits: float, files: float) -> float:
    """Seconds of all commits of a table that grows evenly to so many files."""
    return commits * (log.commit + log.commit_a_file * files / 2)
