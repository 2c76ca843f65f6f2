"""What the lake's MLflow holds of its runs; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake import mlflow_place
from lake.models import prepare_mlflow
from udfs.errors import ModelError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

PAGE = 1000  # runs that MLflow gives at a time


@dataclass(frozen=True)
class Run:
    """A run as MLflow recorded it. version: of the registered model that it made; None for none."""

    run_id: str
    name: str
    status: str
    started_at: datetime
    seconds: float | None
    version: str | None
    parameters: dict[str, str]
    metrics: dict[str, float]


def runs(root: Path) -> list[Run]:
    """All runs of the lake, newest first; none while nothing was trained. Raises ModelError when MLflow cannot read."""
    place = mlflow_place.place(root)
    if place.file is not None and not place.file.is_file():
        return []
    prepare_mlflow()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = mlflow.MlflowClient(place.uri, place.uri)
        made = client.search_model_versions(f"name = '{place.registered_model}'")
        versions = {each.run_id: str(each.version) for each in made}
        found = [_described(run, versions.get(run.info.run_id)) for run in _all(client, place.experiment)]
    except (MlflowException, SQLAlchemyError) as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"{place.file or place}: MLflow cannot read its runs: {first}") from error
    return sorted(found, key=lambda run: run.started_at, reverse=True)


def _all(client: MlflowClient, experiment: str) -> Iterator[Any]:
    found = client.search_experiments(filter_string=f"name LIKE '{experiment}%'")
    experiments = [each.experiment_id for each in found]
    token = None
    while experiments:
        page = client.search_runs(experiments, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _described(run: Any, version: str | None) -> Run:
    info = run.info
    seconds = None if info.end_time is None else (info.end_time - info.start_time) / 1000
    started_at = datetime.fromtimestamp(info.start_time / 1000, UTC)
    told = (dict(run.data.params), dict(run.data.metrics))
    return Run(info.run_id, info.run_name or "", info.status, started_at, seconds, version, *told)
