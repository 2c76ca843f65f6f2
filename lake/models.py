"""Trained models: described and kept in the lake, logged with MLflow, loaded without ever unpickling."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake import mlflow_place, model_files, store
from lake.classifier import Classifier
from udfs.errors import ModelError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
NO_RUN = "unknown"


def prepare_mlflow() -> None:
    """Import MLflow, which takes seconds, so that it is quiet and keeps to itself."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # among what a command prints
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # its 7 take minutes where a server is gone
    import mlflow  # noqa: F401 (it sets its loggers' levels when it is imported)

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints tracebacks of what it also raises


def tracking(root: Path) -> MlflowClient:
    """MLflow where it keeps the lake's runs, see `tracking.place`. Raises ModelError when it does not answer."""
    prepare_mlflow()
    import mlflow

    place = mlflow_place.place(root)
    with mlflow_place.unchanged_environment(), mlflow_place.explained(root):
        mlflow_place.make_database(place)
        mlflow.set_tracking_uri(place.uri)
        mlflow.set_registry_uri(place.uri)
        client = mlflow.MlflowClient(place.uri, place.uri)
        experiment = client.get_experiment_by_name(place.experiment)
        # MLflow would go on writing to the old place of a lake that was copied or moved
        has_moved = experiment is not None and place.artifacts not in (None, experiment.artifact_location)
        name = f"{place.experiment} in {root / 'mlflow'}" if has_moved else place.experiment
        if client.get_experiment_by_name(name) is None:
            client.create_experiment(name, artifact_location=place.artifacts)
        mlflow.set_experiment(name)
    return client


def register(root: Path, uri: str, mlflow_run_id: str, logged_id: str) -> str:
    """Make the logged model a version of the registered model; returns that one's URI."""
    client, name = tracking(root), mlflow_place.place(root).registered_model
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(name, uri, mlflow_run_id, model_id=logged_id)
    return f"models:/{name}/{made.version}"


def rows(root: Path) -> list[dict[str, Any]]:
    """The models of the lake, newest first."""
    found = store.rows(root, "models").sort("trained_at", descending=True)
    return found.to_dicts()


def champion(root: Path) -> str | None:
    """The model_id that predictions, metrics and heatmaps are of by default."""
    return store.setting(root, CHAMPION)


def find(root: Path, wanted: str | None = None) -> dict[str, Any]:
    """The lake's row of a model; without a name, of the champion.

    wanted: a model_id, an MLflow run id, 'champion', runs:/RUN_ID/model, models:/NAME/VERSION, models:/NAME@ALIAS or
    models:/LOGGED_MODEL_ID. Raises ModelError when there is none, naming those that there are, and when MLflow
    knows a model that histolake did not train.
    """
    known = rows(root)
    if not known:
        raise ModelError(f"{root}: no model in the lake yet; train one with `histolake train`")
    listing = ", ".join(row["model_id"] for row in known)
    name = champion(root) if wanted in (None, CHAMPION) else wanted
    if name is None:
        raise ModelError(f"{root}: no champion yet; name a model, or `histolake models promote` one of {listing}")
    for row in known:
        if name in (row["model_id"], row["uri"], row["mlflow_run_id"]):
            return row
    run_id = _run_of(root, name) if name.startswith(("runs:/", "models:/")) else None
    for row in known:
        if run_id == row["mlflow_run_id"]:
            return row
    if run_id:
        raise ModelError(
            f"{root}: {name} was not trained by histolake here: the table models has no row of MLflow run {run_id}, "
            f"so its encoder, patch size and microns per pixel are not known; models are {listing}"
        )
    raise ModelError(f"{root}: no model {name!r}; models are {listing}")


def _run_of(root: Path, uri: str) -> str | None:
    """The MLflow run that made the model of this MLflow URI; None when the lake's MLflow knows no such model."""
    from mlflow.exceptions import MlflowException

    scheme, _, rest = uri.partition(":/")
    name, slash, version = rest.strip("/").partition("/")
    if scheme == "runs":
        return name
    client = tracking(root)
    registered, _, alias = name.partition("@")
    try:
        if alias:
            return str(client.get_model_version_by_alias(registered, alias).run_id or NO_RUN)
        if slash:
            return str(client.get_model_version(name, version).run_id or NO_RUN)
        return str(client.get_logged_model(name).source_run_id or NO_RUN)
    except MlflowException:
        return None


def make_champion(root: Path, row: Mapping[str, Any], run_id: str, reason: str | None = None) -> None:
    """Have predictions, metrics and heatmaps be of the model of that row by default; MLflow's alias follows.

    The ledger's entry names the model and the reason. Raises ModelError when it saw patches of test slides: what it
    is measured by would flatter it.
    """
    if row["protocol"] == "patch_random":
        raise ModelError(
            f"model {row['model_id']} cannot be the champion: by protocol patch_random it was trained on patches of "
            "every slide, of test slides too; train with --protocol by_slide"
        )
    if champion(root) != row["model_id"]:
        _point_alias(root, row)
        told = {"model_id": row["model_id"]} | ({"reason": reason} if reason else {})
        store.put(root, "settings", [{"name": CHAMPION, "value": row["model_id"]}], run_id, told)


def _point_alias(root: Path, row: Mapping[str, Any]) -> None:
    client = tracking(root)
    from mlflow.exceptions import MlflowException

    try:
        _, name, version = str(row["uri"]).split("/")
        client.set_registered_model_alias(name, CHAMPION, version)
    except MlflowException as error:
        raise ModelError(
            f"model {row['model_id']} cannot be the champion: MLflow at {mlflow_place.place(root)} has no "
            f"{row['uri']} ({error.message}); restore it, or train again"
        ) from error


def load_model(root: Path, model_id: str) -> Classifier:
    """The classifier of that model_id, from the table model_files.

    Raises ModelError when the lake has no such model, or `model_files.read` refuses its file.
    """
    row = find(root, model_id)
    return Classifier(model_files.read(root, model_id), row["dims"])
