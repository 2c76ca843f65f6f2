"""What the deep head reaches and what a second worker brings: bench/training.py, into docs/distributed-training.md."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import feature_lake
import numpy as np
import report
from accuracy import auc, bootstrap, encoder_of
from features import embeddings, read_patches
from threadpoolctl import threadpool_limits

from lake import engines, session
from lake.choices import Engine, EngineName
from lake.heads import HEADS
from lake.learning import learn
from lake.recipe import Recipe
from lake.selection import Chosen, TrainingSet, choose

SLIDES = {"train": 6, "validation": 2}
PATCHES, DIMS = 1_000, 1280  # of a slide: 6,000 to fit, 2,000 to choose with
STEPS = 200
ROUNDS = 1  # of one and of two workers, by turns


def main() -> None:
    """Measure both, and write the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=Path, default=report.SHARED / "data/pcam", help="folder of the patches")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "histolake-bench", help="where embeddings are kept"
    )
    given = parser.parse_args()
    found = {"measured": f"{datetime.now(UTC).date().isoformat()} on {report.machine()}"}
    results: dict[str, Any] = {**found, "accuracy": accuracy(given.patches, given.cache), "workers": workers()}
    parts = {"accuracy": accuracy_table(results["accuracy"]), "workers": workers_table(results)}
    report.write("training", results, "distributed-training.md", parts)


def accuracy(patches: Path, cache: Path) -> list[dict[str, Any]]:
    """Each head on EfficientNet-Lite0's features of real patches: its AUC on those of other slides."""
    cache.mkdir(parents=True, exist_ok=True)
    train, valid = (read_patches(patches, name, 0.0) for name in ("train", "valid"))
    encoder = encoder_of((), cache)
    y = np.concatenate([train.labels, valid.labels])
    is_validation = np.repeat([False, True], [len(train.labels), len(valid.labels)])
    x = np.concatenate([embeddings(encoder, each, cache) for each in (train, valid)])
    data, rows = TrainingSet(x, y, is_validation.astype(str), is_validation), []
    for name, head in HEADS.items():
        start = time.process_time()
        with threadpool_limits(1, user_api="blas"):
            chosen = choose(head, data)
        seconds = time.process_time() - start
        rows.append({"head": name, "parameters": dict(chosen.parameters), **measured(chosen)})
        rows[-1] |= {"tried": len(chosen.tried), "processor_seconds": seconds}
        print(rows[-1], flush=True)
    return rows


def measured(chosen: Chosen) -> dict[str, float]:
    """AUC on the patches held out, and its error by bootstrap."""
    truth, scores = chosen.labels, chosen.probabilities
    return {"auc": auc(truth, scores), "error": bootstrap(truth, lambda rows: auc(truth[rows], scores[rows]))}


def workers() -> list[dict[str, Any]]:
    """Both heads on Ray with one worker and with two: seconds, and what they have come to."""
    HEADS["deep"] = replace(HEADS["deep"], candidates=({"steps": STEPS},))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "lake"
        feature_lake.write(root, SLIDES, PATCHES, DIMS)
        for head in ("logistic", "deep"):
            recipe = Recipe(feature_lake.PATCH_SET, feature_lake.ENCODER, "centre", head=head)
            for count in (1, 2) * ROUNDS:
                rows.append({"head": head, "workers": count, **trained(root, recipe, count)})
                print({name: value for name, value in rows[-1].items() if name != "coefficients"}, flush=True)
    return rows


def trained(root: Path, recipe: Recipe, count: int) -> dict[str, Any]:
    """What a training with so many workers takes once the cluster is there, and its losses or coefficients."""
    with engines.reader(Engine(EngineName.ray), count) as read, session.connect(root, udfs=()) as con:
        start = time.perf_counter()
        data = read(con, root, recipe)
        assert data is not None  # noqa: S101 (the lake has patches)
        reading = time.perf_counter() - start
        learned = learn(data, recipe)
        told = {"reading": reading, "seconds": time.perf_counter() - start, "load": os.getloadavg()[0]}
    if recipe.head == "deep":
        return {**told, "losses": list(learned.estimator.losses)}
    return {**told, "coefficients": learned.estimator[-1].coef_[0].tolist()}


def accuracy_table(rows: list[dict[str, Any]]) -> str:
    """The heads beside each other."""
    lines = []
    for row in rows:
        chosen = ", ".join(f"{name} {value:g}" for name, value in row["parameters"].items())
        seconds = f"{row['processor_seconds']:.0f} s"
        lines.append([row["head"], chosen, f"{row['auc']:.3f} ± {row['error']:.3f}", str(row["tried"]), seconds])
    return report.grid(["head", "chosen", "AUC", "candidates tried", "processor time, one core"], lines)


def workers_table(results: dict[str, Any]) -> str:
    """Seconds with one worker and with two, and by how much the results differ."""
    lines = []
    for head, what in (("logistic", "coefficients"), ("deep", "losses")):
        of = {count: [r for r in results["workers"] if (r["head"], r["workers"]) == (head, count)] for count in (1, 2)}
        one, two = (np.array(rows[0][what]) for rows in of.values())
        seconds = [f"{min(row['seconds'] for row in rows):.0f} s" for rows in of.values()]
        apart = np.abs(two - one).max() if head == "logistic" else np.abs(two / one - 1).max()
        lines.append([head, *seconds, f"{what}: {apart:.1e} at most" + (", relative" if head == "deep" else "")])
    load = max(row["load"] for row in results["workers"])
    table = report.grid(["head", "one worker", "two workers", "difference of the results"], lines)
    return f"{table}\n\nMeasured {results['measured']}; load average up to {load:.0f}."


if __name__ == "__main__":
    main()
