"""Logs a training with MLflow: parameters, metrics, plots, the tables read, and the model itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lake import mlflow_place, model_files, models
from lake.deep import REPORT
from lake.selection import Labelled
from lake.training_plots import figures

if TYPE_CHECKING:
    from lake.learning import Learned

SERVED = {  # by the format of the head's file: the script that serves it, and what that imports
    model_files.SKOPS: ("served_model.py", ("mlflow", "numpy", "pandas", "scikit-learn", "skops")),
    model_files.ONNX: ("served_network.py", ("mlflow", "numpy", "onnxruntime", "pandas")),
}


@dataclass(frozen=True)
class Logged:
    """What MLflow keeps. columns: of the model's row in `models` that it decides. metrics: by MLflow's names."""

    columns: Mapping[str, Any]
    metrics: Mapping[str, float]


def log(
    root: Path, learned: Learned, data: Labelled, parameters: Mapping[str, Any], versions: Mapping[str, int]
) -> Logged:
    """Write the MLflow run, and make the model a version of the registered model.

    parameters: of the training. versions: Delta version of every table that it read.
    """
    models.tracking(root)
    import mlflow

    chosen = learned.chosen
    scores = _scores(learned, data)
    metrics = measures(learned, data)
    with mlflow.start_run() as run:
        mlflow.log_params({**parameters, **chosen.parameters, "chosen_by": chosen.how, "threshold": learned.threshold})
        mlflow.log_params({"train_patches": int((~data.is_validation).sum()), "dims": data.dims})
        mlflow.log_param("shards", data.shards)
        mlflow.log_params({f"version_{name}": number for name, number in versions.items()})
        mlflow.log_metrics(metrics)
        for step, (_, auc) in enumerate(chosen.tried):
            mlflow.log_metric("selection_auc", auc, step=step)
        for step, loss in enumerate(getattr(learned.estimator, "losses", ()), start=1):
            mlflow.log_metric("training_loss", loss, step=step * REPORT)
        mlflow.log_dict({"tried": [{**tried, "auc": auc} for tried, auc in chosen.tried]}, "selection.json")
        for name, figure in figures(scores, learned.threshold).items():
            mlflow.log_figure(figure, name)
        _log_inputs(root, data, versions)
        logged = _log_model(learned, data)
    uri = models.register(root, logged.model_uri, run.info.run_id, logged.model_id)
    columns = {
        "uri": uri,
        "artifact": mlflow_place.artifact(root, mlflow.get_logged_model(logged.model_id).artifact_location),
        "mlflow_run_id": run.info.run_id,
        "trained_at": datetime.now(UTC),
    }
    return Logged(columns, metrics)


def measures(learned: Learned, data: Labelled) -> dict[str, float]:
    """The metrics of a training by MLflow's names: of each split those of `_measures`."""
    scores = _scores(learned, data)
    return {
        f"{split}_{name}": value
        for split, each in scores.items()
        for name, value in _measures(*each, learned.threshold).items()
    }


def _scores(learned: Learned, data: Labelled) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Labels and probabilities of each split."""
    splits = {"train": ~data.is_validation, "validation": data.is_validation}
    return {
        name: (data.y[rows], data.probability(learned.estimator, np.flatnonzero(rows)))
        for name, rows in splits.items()
        if rows.any()
    }


def _log_model(learned: Learned, data: Labelled) -> Any:
    """Log the whole head: embeddings in, probability and decision out, as the scripts in `SERVED` serve it."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.float32), (-1, data.dims))]),
        Schema([ColSpec("double", "probability"), ColSpec("long", "decision")]),
    )
    file = model_files.file_of(learned.estimator)
    script, packages = SERVED[file.format]
    with TemporaryDirectory() as folder:
        head, decision = Path(folder) / file.name, Path(folder) / "decision.json"
        head.write_bytes(file.content)
        decision.write_text(json.dumps({"threshold": learned.threshold, "classes": file.classes}), encoding="utf-8")
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name(script)),
            artifacts={"head": str(head), "decision": str(decision)},
            signature=signature,
            input_example=data.example,
            pip_requirements=[f"{name}=={version(name)}" for name in packages],
        )


def _log_inputs(root: Path, data: Labelled, versions: Mapping[str, int]) -> None:
    """Record each Delta table at its version as an input of the MLflow run."""
    import mlflow
    import pandas as pd
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.pandas_dataset import from_pandas

    rows = pd.DataFrame({"slide_id": data.slides, "label": data.y.astype(float)})  # MLflow warns of integers
    digest = None  # of the rows, which are the same for all
    for name, number in versions.items():
        source = DeltaDatasetSource(path=str(root / name), delta_table_version=number)
        table = from_pandas(rows, source=source, name=name, digest=digest)
        mlflow.log_input(table, context="training")
        digest = table.digest


def _measures(labels: NDArray[np.int64], probabilities: NDArray[np.float64], threshold: float) -> dict[str, float]:
    from sklearn.metrics import (
        accuracy_score,
        balanced_accuracy_score,
        brier_score_loss,
        confusion_matrix,
        roc_auc_score,
    )

    called = (probabilities >= threshold).astype(np.int64)
    counts = dict(zip(("tn", "fp", "fn", "tp"), confusion_matrix(labels, called, labels=[0, 1]).flat, strict=True))
    measures = {name: float(count) for name, count in counts.items()}
    measures["accuracy"] = float(accuracy_score(labels, called))
    measures["brier"] = float(brier_score_loss(labels, probabilities))
    if len(np.unique(labels)) == 2:
        measures["balanced_accuracy"] = float(balanced_accuracy_score(labels, called))
        measures["auc"] = float(roc_auc_score(labels, probabilities))
    return measures
