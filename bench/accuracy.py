"""What each part of the embedded encoder brings, on real patches: `make bench-accuracy` (bench/accuracy.py --help).

Trains on PatchCamelyon's train.parquet, chooses and measures on valid.parquet, whose patches come from other
slides. Writes bench/accuracy.json, and the tables of docs/accuracy.md between their markers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import report
from features import Embeddings, Patches, embeddings, pixels, read_patches
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lake.heads import HEADS
from lake.selection import TrainingSet, choose
from udfs.encoders import efficientnet_lite0, efficientnet_lite0_stages
from udfs.encoders.efficientnet_lite0_stages import VIEWS, View
from udfs.encoders.encoder import Encoder, describe

STAIN = 0.2
HELD_OUT = 5  # one patch in so many of train.parquet is held out to choose a threshold on
DRAWS = 200

UPRIGHT = (View(),)
ROUND = tuple(View(flipped=axes) for axes in ((), (2, 3), (3,), (2,)))


@dataclass(frozen=True)
class Rung:
    """A row of the ablation. views: of all depths; none for plain efficientnet_lite0."""

    features: str
    views: tuple[View, ...]
    head: str


RUNGS = [
    Rung(features, views, head)
    for features, views in (
        ("efficientnet_lite0, 224 px", ()),
        ("all depths, 160 px, 1 view", UPRIGHT),
        ("… in an even stain", (View(is_even=True),)),
        ("… 4 views, as stained", ROUND),
        ("efficientnet_lite0_stages: 4 views, 2 of them even", VIEWS),
    )
    for head in ("logistic", "mlp")
]

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """Embeddings of the three sets of patches."""

    train: Embeddings
    valid: Embeddings
    stained: Embeddings


def main() -> None:
    """Measure every rung, and write the result and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=Path, default=report.SHARED / "data/pcam", help="folder of the patches")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "histolake-bench", help="where embeddings are kept"
    )
    given = parser.parse_args()
    missing = [name for name in ("train.parquet", "valid.parquet") if not (given.patches / name).is_file()]
    if missing:
        sys.exit(f"{given.patches}: no {' and no '.join(missing)} (patch_id, label, jpeg); say where with --patches")
    sets = [read_patches(given.patches, *of) for of in (("train", 0.0), ("valid", 0.0), ("valid", STAIN))]
    rows, plain = [], None
    for rung in RUNGS:
        print(f"{rung.features}, {rung.head}", flush=True)
        row, scores = measure(rung, features_of(rung.views, sets, given.cache), sets[0].labels, sets[1].labels, plain)
        plain = scores if plain is None else plain
        rows.append(asdict(rung) | row)
    shipped = {"efficientnet_lite0": (), "efficientnet_lite0_stages": VIEWS}
    speed = {name: images_a_second(encoder_of(views, given.cache), sets[1]) for name, views in shipped.items()}
    results = {
        "measured": f"{datetime.now(UTC).date().isoformat()} on {report.machine()}",
        "patches": {s.name: len(s.labels) for s in sets},
        "rungs": rows,
        "images_a_processor_second": speed,
    }
    report.write("accuracy", results, "accuracy.md", {"ablation": ablation(rows), "speed": speeds(results)})


def encoder_of(views: Sequence[View], cache: Path) -> Encoder:
    """The encoder that ships, or one of other views, built by the same function."""
    name = "efficientnet_lite0" if not views else "efficientnet_lite0_stages"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{name}-{os.getpid()}.onnx"
    if views:
        efficientnet_lite0_stages.build(path, views)
    else:
        efficientnet_lite0.build(path)
    try:
        spec = describe(name, path, preprocessing={}, precision="fp32", source=efficientnet_lite0.SOURCE)
        return Encoder(spec, path)
    finally:
        path.unlink()


def features_of(views: Sequence[View], sets: Sequence[Patches], cache: Path) -> Features:
    """Embeddings of each set: those of several views are the average of each one's, so each is computed once."""
    encoders = [encoder_of([view], cache) for view in views] or [encoder_of((), cache)]
    found = [np.mean([embeddings(encoder, each, cache) for encoder in encoders], axis=0) for each in sets]
    if views == VIEWS:
        few = pixels(sets[1], np.arange(16), efficientnet_lite0_stages.INPUT_PX)
        np.testing.assert_allclose(encoder_of(views, cache).embed(few), found[1][:16], rtol=1e-3, atol=1e-3)
    return Features(*found)


def measure(
    rung: Rung, features: Features, y: Labels, truth: Labels, plain: Scores | None
) -> tuple[dict[str, float | str], Scores]:
    """Fit the rung's head; returns its figures, and its scores of the validation patches. plain: those of the first."""
    head = HEADS[rung.head]
    is_validation = np.repeat([False, True], [len(y), len(truth)])
    both = TrainingSet(
        np.concatenate([features.train, features.valid]),
        np.concatenate([y, truth]),
        is_validation.astype(str),
        is_validation,
    )
    with threadpool_limits(1, user_api="blas"):
        parameters = choose(head, both).parameters
        start = time.process_time()
        fitted = head.fit(features.train, y, **parameters)
        seconds = time.process_time() - start
        held = np.arange(len(y)) % HELD_OUT == 0
        partial = head.fit(features.train[~held], y[~held], **parameters)
        held_out = partial.predict_proba(features.train[held])[:, 1]
        valid, stained = (fitted.predict_proba(x)[:, 1].astype(np.float64) for x in (features.valid, features.stained))
    from_train, from_valid = best_threshold(y[held], held_out), best_threshold(truth, valid)
    error = bootstrap(truth, lambda rows: auc(truth[rows], valid[rows]))
    gain = bootstrap(
        truth,
        lambda rows: auc(truth[rows], valid[rows]) - auc(truth[rows], (plain if plain is not None else valid)[rows]),
    )
    row: dict[str, float | str] = {
        "parameters": ", ".join(f"{name} {value:g}" for name, value in parameters.items()),
        "auc": auc(truth, valid),
        "auc_error": error,
        "gain": auc(truth, valid) - auc(truth, plain if plain is not None else valid),
        "gain_error": gain,
        "balanced_accuracy_threshold_from_train": balanced_accuracy(truth, valid, from_train),
        "balanced_accuracy_threshold_from_other_half": crossed(truth, valid),
        "balanced_accuracy_threshold_from_valid": balanced_accuracy(truth, valid, from_valid),
        "balanced_accuracy_error": bootstrap(
            truth, lambda rows: balanced_accuracy(truth[rows], valid[rows], from_valid)
        ),
        "stained_auc": auc(truth, stained),
        "stained_balanced_accuracy": balanced_accuracy(truth, stained, from_valid),
        "fit_seconds": seconds,
    }
    return row, valid


def auc(truth: Labels, scores: Scores) -> float:
    """Area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))


def balanced_accuracy(truth: Labels, scores: Scores, threshold: float) -> float:
    """Mean of sensitivity and specificity; tumor is a score of the threshold or more."""
    is_called = scores >= threshold
    return float((is_called[truth == 1].mean() + (~is_called[truth == 0]).mean()) / 2)


def best_threshold(truth: Labels, scores: Scores) -> float:
    """The score with the highest balanced accuracy."""
    from sklearn.metrics import roc_curve

    false, true, thresholds = roc_curve(truth, scores)
    return float(thresholds[np.argmax(true - false)])


def crossed(truth: Labels, scores: Scores) -> float:
    """Balanced accuracy at a threshold that was chosen on the other half: the mean over random halves."""
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        half = rng.random(len(truth)) < 0.5
        found.append(balanced_accuracy(truth[~half], scores[~half], best_threshold(truth[half], scores[half])))
    return float(np.mean(found))


def bootstrap(truth: Labels, statistic: Callable[[NDArray[np.int64]], float]) -> float:
    """Standard error of a statistic of rows, over draws of as many patches with replacement."""
    rng = np.random.default_rng(0)
    return float(np.std([statistic(rng.integers(0, len(truth), len(truth))) for _ in range(DRAWS)]))


def images_a_second(encoder: Encoder, patches: Patches) -> float:
    """Patches embedded in a second of one processor: the best of three tries, since others may compute too."""
    few = pixels(patches, np.arange(64), encoder.spec.input_px)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        encoder.embed(few)
        seconds.append(time.process_time() - start)
    return len(few) / min(seconds)


def ablation(rows: Sequence[Mapping[str, float | str]]) -> str:
    """The table of rungs."""
    columns = [
        *("features", "head", "AUC", "gain over the first", "balanced accuracy, threshold from held-out train"),
        *("… from the other half of valid", "… from valid itself", "AUC, stains shifted"),
        "balanced accuracy, stains shifted",
    ]
    lines = []
    for row in rows:
        gain = f"{row['gain']:+.3f} ± {row['gain_error']:.3f}" if row["gain_error"] else ""
        numbers = [
            f"{row['auc']:.3f} ± {row['auc_error']:.3f}",
            gain,
            f"{row['balanced_accuracy_threshold_from_train']:.3f}",
            f"{row['balanced_accuracy_threshold_from_other_half']:.3f} ± {row['balanced_accuracy_error']:.3f}",
            f"{row['balanced_accuracy_threshold_from_valid']:.3f}",
            f"{row['stained_auc']:.3f}",
            f"{row['stained_balanced_accuracy']:.3f}",
        ]
        lines.append([str(row["features"]), f"{row['head']} ({row['parameters']})", *numbers])
    return report.grid(columns, lines)


def speeds(results: Mapping[str, Any]) -> str:
    """The table of speeds, and where and when all was measured."""
    rows = [(f"`{name}`", f"{rate:.0f}") for name, rate in results["images_a_processor_second"].items()]
    return f"{report.grid(('encoder', 'patches a second of one processor'), rows)}\n\nMeasured {results['measured']}."


if __name__ == "__main__":
    main()
