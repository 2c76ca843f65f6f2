"""What became of damaged slides: their outcomes in the ledger, their patches, and the promises that were broken."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from slide_mutants import Mutant
from slide_oracle import Oracle, is_near, means, of_original
from slide_originals import Original

from lake import store
from udfs import slide_process, slide_requests

MOST_SECONDS = slide_requests.MOST_ENDS * slide_process.STALL_SECONDS  # of one unit of a slide

Size = tuple[int, int]


@dataclass
class Findings:
    """What the suite has seen. broken: promises, each with its slide."""

    outcomes: dict[str, collections.Counter[str]] = field(default_factory=dict)
    patches: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: list[str] = field(default_factory=list)
    crashes: int = 0
    ends: int = 0
    deadlines: int = 0
    slowest: float = 0.0


def judge(findings: Findings, root: Path, mutants: Sequence[Mutant]) -> None:
    """Every mutant has its outcome in the ledger, in time, and no patch shows what is not in the file."""
    ledger, slides = store.rows(root, "runs"), {row["slide_id"]: row for row in store.rows(root, "slides").to_dicts()}
    spans = store.rows(root, "patches").select("slide_id", "patch_set", "x", "y", "span_x", "span_y")
    features = store.rows(root, "features").join(spans, on=["slide_id", "patch_set", "x", "y"], how="left")
    for mutant in mutants:
        name = mutant.path.stem
        entries = ledger.filter(pl.col("slide_id") == name)
        slide, patches = slides.get(name), features.filter(pl.col("slide_id") == name)
        outcome = outcome_of(entries, slide)
        findings.outcomes.setdefault(mutant.kind, collections.Counter())[outcome] += 1
        if outcome == "lost":
            findings.broken.append(f"{name} ({mutant.kind}): its outcome is not in the ledger")
        for seconds in entries["seconds"].to_list():
            findings.slowest = max(findings.slowest, seconds)
            if seconds > MOST_SECONDS:
                findings.broken.append(f"{name} ({mutant.kind}): a unit took {seconds:.0f} s")
        errors = [text for text in (*entries["error"].to_list(), *patches["error"].to_list()) if text]
        findings.ends += any("its reader" in text for text in errors)
        findings.deadlines += any("took longer" in text for text in errors)
        if slide is not None and mutant.original is not None:
            size = slide["width"], slide["height"]
            findings.broken += invented(findings, mutant, mutant.original, size, patches)


def outcome_of(entries: pl.DataFrame, slide: dict[str, object] | None) -> str:
    """ok, some patches unreadable, empty, failed; or lost: where the ledger has no word on a stage that was due."""
    known = {row["stage"]: row for row in entries.sort("finished_at").to_dicts()}
    if slide is None or "slides" not in known:
        return "lost"
    if slide["status"] == "failed":
        return "failed" if slide["error"] else "lost"
    for stage in ("patches", "features"):
        entry = known.get(stage)
        if entry is None:
            return "lost"
        if entry["status"] == "failed":
            return "failed" if entry["error"] else "lost"
        if entry["status"] == "empty":
            return "empty"
    return "some patches unreadable" if known["features"]["errors"] else "ok"


def invented(
    findings: Findings, mutant: Mutant, original: Original, size: Size, patches: pl.DataFrame
) -> Iterator[str]:
    """Patches whose pixels neither the sound slide has nor another decoder finds in the mutant."""
    oracle = None
    for row in patches.to_dicts():
        if row["embedding"] is None:
            findings.patches["unreadable"] += 1
            if not row["error"]:
                yield f"{mutant.path.stem} ({mutant.kind}): a patch has neither pixels nor an error"
            continue
        area = row["x"], row["y"], row["span_x"], row["span_y"]
        found = np.array(row["embedding"]).reshape(3, 4, 4)
        if is_near(found, means(of_original(original, *area), *area)):
            findings.patches["as in the sound slide"] += 1
            continue
        oracle = oracle or Oracle(mutant.path, original, *size)
        read = oracle.patch(*area)
        if read is not None and is_near(found, means(read, *area)):
            findings.patches["as another decoder reads the damage"] += 1
        else:
            findings.patches["invented"] += 1
            yield f"{mutant.path.stem} ({mutant.kind} of {original.name}): a patch at {area} shows what is not there"
