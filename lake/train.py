"""Trains the patch classifier on the lake's features and labels, and logs all of it with MLflow."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import duckdb
import numpy as np
from numpy.typing import NDArray

from lake import models, session, store
from lake.sql_files import query
from udfs.errors import ModelError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # values of C that are tried, from the smallest on,
ENOUGH_WORSE = 0.002  # until the AUC has fallen this far below the best: larger C only fits more of the noise
FOLDS = 5
TABLES_READ = ("slides", "annotations", "patches", "labels", "features")


@dataclass(frozen=True)
class TrainingSet:
    """Labelled embeddings: x (n, dims) float32, y (n,) 0 or 1, the slide and the split of each row."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    slides: NDArray[np.str_]
    is_validation: NDArray[np.bool_]


@dataclass(frozen=True)
class Trained:
    """What training made. metrics: by MLflow's names. is_new: False when the lake had this model."""

    model_id: str
    uri: str
    mlflow_run_id: str
    metrics: Mapping[str, float]
    is_new: bool


def train(root: Path, *, patch_set: str, encoder_id: str, label_rule: str, run_id: str) -> Trained:
    """Fit StandardScaler and LogisticRegression, choose C without looking at test, log and register.

    The model becomes the champion. Raises ModelError when there is nothing to learn from.
    """
    selection = {"patch_set": patch_set, "encoder_id": encoder_id, "label_rule": label_rule}
    with session.connect(root, read_only=False, udfs=()) as con:
        versions = {name: number for name, number in session.versions(con).items() if name in TABLES_READ}
        if known := _trained_on(root, selection, versions):
            _make_champion(root, known, run_id)
            return _known(known)
        data = training_set(con, selection)
        tilings = con.execute("select patch_px, mpp from patch_sets where patch_set = $p", {"p": patch_set}).pl()
    strength, chosen_by, tried = choose_strength(data)
    is_train = ~data.is_validation
    estimator = fit(strength, data.x[is_train], data.y[is_train])
    model_id = _content_hash(estimator, selection)
    known = next((row for row in models.rows(root) if row["model_id"] == model_id), None)
    if known:
        _make_champion(root, known, run_id)
        return _known(known)
    parameters = {**selection, "C": strength, "C_chosen_by": chosen_by, "classifier": "LogisticRegression"}
    row, metrics = _log(root, estimator, data, parameters, tried, versions)
    row |= {**selection, "model_id": model_id, "dims": data.x.shape[1], "table_versions": json.dumps(versions)}
    row |= {"code_version": store.CODE_VERSION, "protocol": "by_slide", "head": "logistic"}
    row |= {"calibration": "none", "threshold": 0.5}
    row |= tilings.row(0, named=True)
    store.put(root, "models", [row], run_id)
    _make_champion(root, row, run_id)
    metrics = {"C": strength, **metrics}
    return Trained(model_id, row["uri"], row["mlflow_run_id"], metrics, is_new=True)


def _trained_on(root: Path, selection: Mapping[str, str], versions: Mapping[str, int]) -> dict[str, Any] | None:
    """The model that was trained on just these tables; fitting is deterministic, so it would come out again."""
    wanted = {**selection, "code_version": store.CODE_VERSION}
    for row in models.rows(root):
        if all(row[name] == value for name, value in wanted.items()) and json.loads(row["table_versions"]) == versions:
            return row
    return None


def _known(row: Mapping[str, Any]) -> Trained:
    return Trained(row["model_id"], row["uri"], row["mlflow_run_id"], {}, is_new=False)


def training_set(con: duckdb.DuckDBPyConnection, selection: Mapping[str, str]) -> TrainingSet:
    """The rows of sql/training_set.sql.

    Raises ModelError when no row of the training split is there, or only one class is.
    """
    rows = con.execute(query("training_set"), dict(selection)).to_arrow_table()
    column = rows["embedding"].combine_chunks()
    dims = len(column[0]) if len(column) else 0
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if dims and len(flat) != dims * len(rows):
        raise ModelError("embeddings of one encoder differ in length; `histolake check` names the rows")
    data = TrainingSet(
        flat.reshape(len(rows), dims),
        rows["label"].to_numpy().astype(np.int64),
        rows["slide_id"].to_numpy().astype(str),
        rows["split"].to_numpy() == "validation",
    )
    in_training = data.y[~data.is_validation]
    if not len(in_training):
        raise ModelError(
            f"no labelled patch of a training slide has features ({_described(selection)}); "
            "ingest annotations, or give slides the split 'train', then `histolake run`"
        )
    if len(np.unique(in_training)) < 2:
        only = "tumor" if in_training[0] else "normal"
        raise ModelError(
            f"all {len(in_training)} labelled training patches are {only} ({_described(selection)}); "
            "ingest slides or annotations with the other class into the training split"
        )
    return data


def _described(selection: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in selection.items())


def fit(strength: float, x: NDArray[np.float32], y: NDArray[np.int64]) -> Any:
    """StandardScaler and LogisticRegression with C = strength, fitted to x (n, dims) and y (n,).

    Both classes weigh alike in the fit, because a few tumor patches among many normal ones rank better so;
    the intercept is then moved to the classes' real shares, so that probabilities stay probabilities
    (King and Zeng, Logistic Regression in Rare Events Data, 2001, prior correction).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = LogisticRegression(C=strength, max_iter=300, tol=1e-3, class_weight="balanced")
    fitted = make_pipeline(StandardScaler(), logistic).fit(x, y)
    logistic.intercept_ += np.log(y.mean() / (1 - y.mean()))
    return fitted


def choose_strength(data: TrainingSet) -> tuple[float, str, dict[float, float]]:
    """The C with the best AUC: on the validation split, or across training slides where that lacks a class.

    Returns C, how it was chosen, and the AUC of every C tried. Test slides are never seen.
    """
    is_train = ~data.is_validation
    if len(np.unique(data.y[data.is_validation])) == 2:
        folds, how = [(np.flatnonzero(is_train), np.flatnonzero(data.is_validation))], "validation split"
    else:
        folds, how = _slide_folds(data, np.flatnonzero(is_train)), "cross-validation over training slides"
    if not folds:
        return 1e-2, "no slides to compare on: the default", {}
    tried: dict[float, float] = {}
    for strength in STRENGTHS:
        tried[strength] = float(np.mean([_auc(data, strength, *fold) for fold in folds]))
        if tried[strength] < max(tried.values()) - ENOUGH_WORSE:
            break
    return max(tried, key=lambda strength: (round(tried[strength], 4), -strength)), how, tried


def _slide_folds(data: TrainingSet, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Folds that keep each slide on one side and hold both classes on both."""
    from sklearn.model_selection import StratifiedGroupKFold

    count = min(FOLDS, len(np.unique(data.slides[rows])))
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few slides of a class: the folds below tell
        splits = list(
            StratifiedGroupKFold(count, shuffle=True, random_state=0).split(rows, data.y[rows], data.slides[rows])
        )
    folds = [(rows[kept], rows[held]) for kept, held in splits]
    return [fold for fold in folds if all(len(np.unique(data.y[side])) == 2 for side in fold)]


def _auc(data: TrainingSet, strength: float, rows: NDArray[np.int64], held: NDArray[np.int64]) -> float:
    from sklearn.metrics import roc_auc_score

    fitted = fit(strength, data.x[rows], data.y[rows])
    return float(roc_auc_score(data.y[held], fitted.predict_proba(data.x[held])[:, 1]))


def _content_hash(estimator: Any, selection: Mapping[str, str]) -> str:
    scaler, logistic = estimator[0], estimator[-1]
    digest = hashlib.sha256(json.dumps(dict(selection), sort_keys=True).encode())
    for array in (scaler.mean_, scaler.scale_, logistic.coef_, logistic.intercept_):
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()[:12]


def _log(
    root: Path,
    estimator: Any,
    data: TrainingSet,
    parameters: Mapping[str, Any],
    tried: Mapping[float, float],
    versions: Mapping[str, int],
) -> tuple[dict[str, Any], dict[str, float]]:
    """Write the MLflow run; returns the columns of the model's row that it decides, and the metrics."""
    from lake.training_plots import figures

    models.tracking(root)
    import mlflow
    import mlflow.sklearn
    from mlflow.models import infer_signature

    splits = {"train": ~data.is_validation, "validation": data.is_validation}
    scores = {
        name: (data.y[rows], estimator.predict_proba(data.x[rows])[:, 1]) for name, rows in splits.items() if rows.any()
    }
    metrics = {f"{name}_{key}": value for name, each in scores.items() for key, value in _measures(*each).items()}
    with mlflow.start_run() as run:
        mlflow.log_params({**parameters, "train_patches": int((~data.is_validation).sum()), "dims": data.x.shape[1]})
        mlflow.log_params({f"version_{name}": number for name, number in versions.items()})
        mlflow.log_metrics(metrics)
        for strength, auc in tried.items():
            mlflow.log_metric("selection_auc_by_log10_C", auc, step=round(np.log10(strength)))
        for name, figure in figures(scores).items():
            mlflow.log_figure(figure, name)
        _log_inputs(root, data, versions)
        logged = mlflow.sklearn.log_model(
            estimator,
            name="model",
            signature=infer_signature(data.x[:5], estimator.predict_proba(data.x[:5])),
            serialization_format="skops",
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["scikit-learn", "skops"],
        )
    number = models.register(root, logged.model_uri, run.info.run_id, logged.model_id)
    location = Path(url2pathname(urlparse(mlflow.get_logged_model(logged.model_id).artifact_location).path))
    row = {
        "uri": f"models:/{models.REGISTERED_NAME}/{number}",
        "artifact": location.relative_to(root).as_posix(),
        "mlflow_run_id": run.info.run_id,
        "trained_at": datetime.now(UTC),
    }
    return row, metrics


def _log_inputs(root: Path, data: TrainingSet, versions: Mapping[str, int]) -> None:
    """Record each Delta table at its version as an input of the MLflow run."""
    import mlflow
    import pandas as pd
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.pandas_dataset import from_pandas

    rows = pd.DataFrame({"slide_id": data.slides, "label": data.y.astype(float)})  # MLflow warns of integers
    for name, number in versions.items():
        source = DeltaDatasetSource(path=str(root / name), delta_table_version=number)
        mlflow.log_input(from_pandas(rows, source=source, name=name), context="training")


def _measures(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, roc_auc_score

    counts = dict(
        zip(("tn", "fp", "fn", "tp"), confusion_matrix(labels, probabilities >= 0.5, labels=[0, 1]).flat, strict=True)
    )
    measures = {name: float(count) for name, count in counts.items()}
    measures["accuracy"] = float(accuracy_score(labels, probabilities >= 0.5))
    measures["brier"] = float(brier_score_loss(labels, probabilities))
    if len(np.unique(labels)) == 2:
        measures["auc"] = float(roc_auc_score(labels, probabilities))
    return measures


def _make_champion(root: Path, row: Mapping[str, Any], run_id: str) -> None:
    if models.champion(root) != row["model_id"]:
        store.put(root, "settings", [{"name": models.CHAMPION, "value": row["model_id"]}], run_id)
        number = str(row["uri"]).rpartition("/")[2]
        models.tracking(root).set_registered_model_alias(models.REGISTERED_NAME, models.CHAMPION, number)
