"""Trained models: kept by MLflow, described in the lake, loaded without ever unpickling."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lake import store
from udfs.errors import ModelError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

REGISTERED_NAME = "histolake"
EXPERIMENT = "histolake"
CHAMPION = "champion"


@dataclass(frozen=True)
class Classifier:
    """A scikit-learn classifier with classes 0 and 1, as the SQL function predict wants it."""

    estimator: Any
    dims: int

    def probability(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of tumor, shape (n,), of embeddings of shape (n, dims)."""
        return np.asarray(self.estimator.predict_proba(embeddings)[:, 1], np.float64)


def tracking(root: Path) -> MlflowClient:
    """MLflow with the lake's own store: SQLite and a folder of artifacts in the lake's folder mlflow/."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow  # takes seconds: only for training and promoting

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)

    folder = root / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(uri, uri)
    location = (folder / "artifacts").as_uri()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    # MLflow would go on writing to the old place of a lake that was copied or moved
    has_moved = experiment is not None and experiment.artifact_location != location
    name = f"{EXPERIMENT} in {folder}" if has_moved else EXPERIMENT
    if client.get_experiment_by_name(name) is None:
        client.create_experiment(name, artifact_location=location)
    mlflow.set_experiment(name)
    return client


def register(root: Path, uri: str, mlflow_run_id: str, logged_id: str) -> str:
    """Make the logged model a version of the registered model; returns the version's number."""
    client = tracking(root)
    if not client.search_registered_models(f"name = '{REGISTERED_NAME}'"):
        client.create_registered_model(REGISTERED_NAME)
    made = client.create_model_version(REGISTERED_NAME, uri, mlflow_run_id, model_id=logged_id)
    return str(made.version)


def rows(root: Path) -> list[dict[str, Any]]:
    """The models of the lake, newest first."""
    found = store.rows(root, "models").sort("trained_at", descending=True)
    return found.to_dicts()


def champion(root: Path) -> str | None:
    """The model_id that predictions, metrics and heatmaps are of by default."""
    return store.setting(root, CHAMPION)


def find(root: Path, wanted: str | None) -> dict[str, Any]:
    """The model of that model_id, MLflow URI or MLflow run id; without a name, the champion.

    Raises ModelError when there is none, naming those that there are.
    """
    known = rows(root)
    name = wanted or champion(root)
    for row in known:
        if name in (row["model_id"], row["uri"], row["mlflow_run_id"]):
            return row
    listing = ", ".join(row["model_id"] for row in known)
    if not listing:
        raise ModelError(f"{root}: no model in the lake yet; train one with `histolake train`")
    raise ModelError(f"{root}: no model {name!r}; models are {listing}")


def make_champion(root: Path, row: Mapping[str, Any], run_id: str) -> None:
    """Have predictions, metrics and heatmaps be of the model of that row by default; MLflow's alias follows."""
    if champion(root) != row["model_id"]:
        store.put(root, "settings", [{"name": CHAMPION, "value": row["model_id"]}], run_id)
        number = str(row["uri"]).rpartition("/")[2]
        tracking(root).set_registered_model_alias(REGISTERED_NAME, CHAMPION, number)


def load_model(root: Path, model_id: str) -> Classifier:
    """The classifier of that model_id, read from its skops file: only scikit-learn's own types are built.

    Raises ModelError when it is not in the lake, not stored as skops, or holds other types.
    """
    row = find(root, model_id)
    file = root / row["artifact"] / "model.skops"
    if not file.is_file():
        raise ModelError(f"model {model_id}: {file} is gone, or the model is not stored as skops; train again")
    import skops.io  # with scikit-learn, a second
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        estimator = skops.io.load(file)
    except UntrustedTypesFoundException as error:
        raise ModelError(f"model {model_id}: {file} holds types that are not scikit-learn's own: {error}") from None
    return Classifier(estimator, row["dims"])
