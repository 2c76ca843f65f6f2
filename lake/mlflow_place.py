"""Where MLflow keeps the runs of a lake: in a store of the lake's own, or where MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlparse
from urllib.request import url2pathname

from lake import storage, store
from udfs.errors import ModelError
from udfs.exhaustion import raise_if_exhausted

NAME = "histolake"  # of the experiment and the registered model in a lake's own store
VARIABLE, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Place:
    """Where MLflow keeps runs. artifacts: the address of its files; None where the server decides."""

    uri: str
    experiment: str
    registered_model: str
    artifacts: str | None

    @property
    def file(self) -> Path | None:
        """The database, where it is a file of this machine."""
        return Path(self.uri.removeprefix(SQLITE)).absolute() if self.uri.startswith(SQLITE) else None

    def __str__(self) -> str:
        parts = urlparse(self.uri)
        return str(self.file.parent if self.file else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def place(root: Path) -> Place:
    """Where MLflow keeps the lake's runs.

    Several lakes share a server: there names have the lake's own identifier. Without one it is an SQLite file, in the
    lake's folder mlflow/, or, for a lake in object storage, where no file can be locked, in this user's folder of
    data; files go to the lake's mlflow/artifacts in either case.
    """
    own = _own_place(root)
    asked = os.environ.get(VARIABLE)
    if not asked or Place(asked, "", "", "").file == own.file:
        return own
    name = f"{NAME}-{_identifier(root)[:8]}"
    return Place(asked, name, name, None)


def _own_place(root: Path) -> Place:
    folder = root / "mlflow"
    if not storage.is_remote(root):
        return Place(f"{SQLITE}{folder / 'mlflow.db'}", NAME, NAME, (folder / "artifacts").as_uri())
    import platformdirs

    data = Path(platformdirs.user_data_dir("histolake", appauthor=False)) / "mlflow" / _identifier(root)
    return Place(f"{SQLITE}{data / 'mlflow.db'}", NAME, NAME, str(folder / "artifacts"))


def _identifier(root: Path) -> str:
    """What tells the lake from all others, wherever it is."""
    return str(store.open_table(root, "runs").metadata().id)


def artifact(root: Path, location: str) -> str:
    """An address of MLflow's files as the lake keeps it: relative to the lake where it is in it."""
    if location.startswith(f"{root}/"):
        return location.removeprefix(f"{root}/")
    if location.startswith("file:"):
        return Path(url2pathname(urlparse(location).path)).relative_to(root).as_posix()
    return location


def read(root: Path, artifact: str, name: str) -> bytes | None:
    """A file that MLflow keeps, `artifact` as the lake keeps it; None where it is not there."""
    if ":" not in artifact.partition("/")[0]:
        file = root / artifact / name
        return file.read_bytes() if file.is_file() else None
    import mlflow
    from mlflow.exceptions import MlflowException

    address = f"{artifact}/{name}"
    try:
        with TemporaryDirectory() as folder:
            uri = place(root).uri
            return Path(mlflow.artifacts.download_artifacts(address, dst_path=folder, tracking_uri=uri)).read_bytes()
    except (MlflowException, OSError):
        return None


def make_database(place: Place) -> None:
    """Make MLflow's database, where it is a file that is not there yet, whole or not at all.

    MLflow makes it in some hundred steps, and cannot open one whose making was stopped.
    """
    if place.file is None or place.file.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    place.file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.file.parent) as folder:
        partial = Path(folder) / place.file.name
        SqlAlchemyStore(f"{SQLITE}{partial}", str(place.artifacts)).engine.dispose()  # type: ignore[no-untyped-call]
        with suppress(FileExistsError):  # another process was quicker
            os.link(partial, place.file)


@contextmanager
def unchanged_environment() -> Iterator[None]:
    """MLflow writes the addresses that it is given into the environment, where the next lake would find them."""
    before = {name: os.environ.get(name) for name in (VARIABLE, REGISTRY)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """A ModelError naming MLflow's address in the place of what MLflow raises when it cannot be reached."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        where = f"{root}: MLflow at {place(root)}"
        raise_if_exhausted(error, where)
        first = str(error).partition("\n")[0]
        raise ModelError(f"{where} does not answer: {first}; see {VARIABLE}") from error
