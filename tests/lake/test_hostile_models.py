"""Models from strangers: nothing is unpickled, nothing that was altered is loaded, nothing unpacks without end."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from support import TestLake, refused

from lake import mlflow_place, model_files, models, skops_file, store
from lake.model_files import ONNX, SKOPS, HeadFile
from udfs.errors import ModelError


class Canary:
    """A pickle of this makes a file when it is loaded, by any library."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)

    def fit(self, x: object, y: object) -> Canary:
        return self

    def predict(self, x: object) -> object:
        return x


def pickled(file: Path) -> bytes:
    content = pickle.dumps(Canary(file))
    pickle.loads(content)
    assert file.exists(), "the canary does not sing"
    file.unlink()
    return content


def fitted() -> bytes:
    content, _ = skops_file.dumps(LogisticRegression().fit(np.eye(6), [0, 1, 0, 1, 0, 1]))
    return content


def with_schema(change: object, **members: bytes) -> bytes:
    """A skops file whose schema is another, with other members beside it."""
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(fitted())) as sound, zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sound.namelist():
            if name != "schema.json" and name not in members:
                archive.writestr(name, sound.read(name))
        archive.writestr("schema.json", change if isinstance(change, bytes) else json.dumps(change))
        for name, content in members.items():
            archive.writestr(name, content)
    return stored.getvalue()


def schema() -> dict[str, object]:
    with zipfile.ZipFile(io.BytesIO(fitted())) as archive:
        found: dict[str, object] = json.loads(archive.read("schema.json"))
        return found


def foreign(module: str, name: str) -> bytes:
    return with_schema({**schema(), "__class__": name, "__module__": module})


def test_a_pickle_is_no_skops_file_and_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "canary"
    for content in (pickled(file), b"\x80\x04.", b"", b"PK\x05\x06" + bytes(18), b"\0" * 1000):
        with pytest.raises(ModelError, match=r"not a skops file that can be read"):
            skops_file.loads(content, "head.skops")
    assert not file.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("subprocess", "Popen"),
        ("joblib.numpy_pickle", "load"),
        ("sklearn.utils._joblib", "joblib"),
        ("sklearn.datasets", "fetch_openml"),
        ("sklearn.linear_model", "np"),
        ("sklearn.nowhere", "Nothing"),
    ],
)
def test_types_that_are_not_scikit_learns_own_are_named_and_not_built(module: str, name: str) -> None:
    with pytest.raises(ModelError, match=r"holds what is not scikit-learn's own|not a skops file") as error:
        skops_file.loads(foreign(module, name), "head.skops")
    assert "\n" not in str(error.value)


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.mark.parametrize(
    "content",
    [
        with_schema(b"[]"),
        with_schema({}),
        with_schema(DEEP),
        with_schema({**schema(), "content": {"file": "../../etc/passwd", "__loader__": "NdArrayNode"}}),
        with_schema({**schema(), "__loader__": "NoSuchNode"}),
        with_schema({**schema(), "content": 7}),
        fitted()[:-30],
        fitted()[: len(fitted()) // 2],
    ],
    ids=["list", "empty", "deep", "outside", "loader", "content", "cut", "half"],
)
def test_a_damaged_skops_file_is_one_sentence(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"head\.skops: not a skops file that can be read: .*; train again") as error:
        skops_file.loads(content, "head.skops")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_skops_file_that_unpacks_without_end_is_refused_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skops_file, "LARGEST", 2**24)
    bomb = with_schema(b" " * 2**25)
    assert len(bomb) < 2**18
    with pytest.raises(ModelError, match=r"unpacks to 33,.* bytes, at most 16,777,216, and is not loaded"):
        skops_file.loads(bomb, "head.skops")


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08"])
def test_a_network_that_is_none_is_one_sentence(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"model m: not a network that ONNX Runtime opens: .*; train again") as error:
        model_files.loaded(HeadFile(ONNX, content), "model m")
    assert "\n" not in str(error.value)


def test_a_model_whose_file_was_altered_is_refused_at_scoring(full_lake: TestLake, tmp_path: Path) -> None:
    """The row's hash is of what was written: neither a pickle in its place, nor one byte more, is loaded."""
    kept = full_lake.read("model_files").to_dicts()[0]
    file = tmp_path / "canary"
    for content in (pickled(file), kept["content"] + b"\0"):
        store.put(full_lake.root, "model_files", [{**kept, "content": content}], "test")
        with pytest.raises(ModelError, match=r"is not what was written .* restore the table, or train again"):
            models.load_model(full_lake.root, kept["model_id"])
    sums = full_lake.read("models").with_columns(pl.lit(None, pl.List(pl.Float32)).alias("slopes"))
    store.put(full_lake.root, "models", sums.with_columns(pl.lit("again").alias("model_id")).to_dicts(), "test")
    store.put(full_lake.root, "model_files", [{**kept, "model_id": "again", "content": pickled(file)}], "test")
    before = full_lake.read("predictions").height
    refused(full_lake("predict", "--model", "again"), "model again", "is not what was written", "train again")
    assert full_lake.read("predictions").height == before
    assert not file.exists()


def test_a_hash_that_was_altered_along_with_the_file_still_unpickles_nothing(
    full_lake: TestLake, tmp_path: Path
) -> None:
    kept, file = full_lake.read("model_files").to_dicts()[0], tmp_path / "canary"
    content = pickled(file)
    for format in (SKOPS, ONNX):
        row = {**kept, "format": format, "content": content, "sha256": hashlib.sha256(content).hexdigest()}
        store.put(full_lake.root, "model_files", [row], "test")
        with pytest.raises(ModelError, match=r"not a skops file|not a network"):
            models.load_model(full_lake.root, kept["model_id"])
    assert not file.exists()


def test_pickles_among_mlflows_artifacts_are_refused_and_not_run(own_lake: TestLake, tmp_path: Path) -> None:
    """By cloudpickle and by joblib, as a model of scikit-learn's and as a python_function."""
    import mlflow

    file, before = tmp_path / "canary", own_lake.versions()
    client = models.tracking(own_lake.root)
    place = mlflow_place.place(own_lake.root)
    run = client.create_run(client.get_experiment_by_name(place.experiment).experiment_id)
    folder = tmp_path / "model"
    folder.mkdir()
    flavors = {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "python_model": "model.pkl"},
        "sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "sklearn_version": "1.8.0"},
    }
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavors, "run_id": run.info.run_id, "artifact_path": "m"}))
    (folder / "model.pkl").write_bytes(pickled(file))
    client.log_artifacts(run.info.run_id, str(folder), "model")
    client.create_registered_model("evil")
    client.create_model_version("evil", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("evil", "best", "1")
    with mlflow_place.unchanged_environment():
        mlflow.set_tracking_uri(place.uri)
        with suppress(mlflow.MlflowException, AttributeError, OSError, ValueError):
            mlflow.sklearn.load_model(f"{run.info.artifact_uri}/model")  # what loading it would do
    assert file.exists(), "the canary does not sing"
    file.unlink()
    for name in ("models:/evil/1", "models:/evil@best", f"runs:/{run.info.run_id}/model"):
        for words in (["predict", "--model", name], ["models", "promote", name], ["evaluate", "--model", name]):
            refused(own_lake(*words), name, "not trained by histolake", run.info.run_id)
    assert own_lake.versions() == before
    assert not file.exists()


def test_pickles_in_the_place_of_a_models_artifacts_are_not_run(own_lake: TestLake, tmp_path: Path) -> None:
    """A lake of histolake 0.1 has its models in MLflow's folder alone, and `optimize` takes them into the lake."""
    file, [row] = tmp_path / "canary", own_lake.read("models").to_dicts()
    artifacts = own_lake.root / row["artifact"]
    for path in [*artifacts.rglob("*")]:
        if path.is_file() and path.suffix in {".skops", ".pkl", ".py"}:
            path.write_bytes(pickled(file))
    table = store.open_table(own_lake.root, "model_files")
    table.delete()
    model_files.adopt(own_lake.root, "test")
    assert own_lake.read("model_files").is_empty()
    own_lake.ok("models", "list")
    own_lake.ok("explain", "tumor_1", "300", "200")
    with pytest.raises(ModelError, match=r"has no file of it; train again"):
        models.load_model(own_lake.root, row["model_id"])
    assert not file.exists()


NAMES = [
    "", " ", "models:/", "models:/x", "models:/a/b/c", "models:/a@", "models:/a/one", "runs:/", "runs:/../../x/model",
    "models:/'; drop table runs;--/1", "models:/" + "x" * 5000 + "/1", "\ud800", "models:/\x00/1", "models:/a/1e99",
    "models:/a/99999999999999999999",
]  # fmt: skip


def test_no_name_of_a_model_is_more_than_unknown(own_lake: TestLake) -> None:
    for name in NAMES:
        with pytest.raises(ModelError, match=r"no model|not trained by histolake") as error:
            models.find(own_lake.root, name)
        assert "\n" not in str(error.value), name
