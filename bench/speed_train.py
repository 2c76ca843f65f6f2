"""Times `histolake train` on 174,000 embeddings of 2,048 numbers, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import feature_lake
import race
from race import Figure

from lake import models

SLIDES = {"train": 16, "validation": 4, "test": 1}
PATCHES, DIMS = 8_700, 2048  # of a slide: 174,000 to train on and to choose with
GB = 1e9

PLAIN = """
import json, sys, time
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from lake import session
from lake.recipe import Recipe
from lake.training_rows import training_set

with session.connect(sys.argv[1], udfs=()) as con:
    data = training_set(con, Recipe(*sys.argv[3:]))
regression = LogisticRegression(C=float(sys.argv[2]), max_iter=5000, tol=1e-6, class_weight="balanced")
x, y = data.x[~data.is_validation], data.y[~data.is_validation]
start = time.perf_counter()
fitted = make_pipeline(StandardScaler(), regression).fit(x, y)
took = time.perf_counter() - start
held = data.is_validation
auc = roc_auc_score(data.y[held], fitted.predict_proba(data.x[held])[:, 1])
print(json.dumps({"seconds": took, "auc": auc, "steps": int(regression.n_iter_[0])}))
"""


def measure(folder: Path) -> list[Figure]:
    """Seconds, memory and accuracy of training the logistic head, and the memory of the other one."""
    made = folder / f"train-{DIMS}"
    if not made.exists():
        feature_lake.write(made, SLIDES, PATCHES, DIMS)
    with TemporaryDirectory(dir=folder) as scratch:
        root = feature_lake.copy(made, Path(scratch) / "logistic")
        logistic = _train(root, "logistic")
        told = json.loads(logistic.output)
        strength = models.tracking(root).get_run(told["mlflow_run_id"]).data.params["C"]
        recipe = (feature_lake.PATCH_SET, feature_lake.ENCODER, "centre")
        plain = json.loads(race.in_process(["-c", PLAIN, str(root), strength, *recipe]).output)
        mlp = _train(feature_lake.copy(made, Path(scratch) / "mlp"), "mlp")
    auc = told["metrics"]["validation_auc"]
    rows = (SLIDES["train"] + SLIDES["validation"]) * PATCHES
    what = f"`histolake train`, {rows:,} x {DIMS:,}"
    plainly = f"scikit-learn alone: {plain['seconds']:.0f} s, {plain['steps']} steps to the optimum of C = {strength}"
    aucs = f"{auc:.5f} and {plain['auc']:.5f}"
    return [
        Figure(f"{what}, logistic", "s", logistic.seconds, at_most=60, note=plainly),
        Figure("its peak memory", "GB", logistic.peak / GB, at_most=4),
        Figure("its AUC, away from scikit-learn's", "", abs(auc - plain["auc"]), at_most=0.001, note=aucs),
        Figure(f"{what}, mlp: peak memory", "GB", mlp.peak / GB, at_most=4, note=f"{mlp.seconds:.0f} s"),
    ]


def _train(root: Path, head: str) -> race.Ran:
    return race.in_process(["-m", "lake", "train", "--lake", str(root), "--head", head, "--json"])
