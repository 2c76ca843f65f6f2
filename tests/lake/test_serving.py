"""The model as MLflow keeps it: served without histolake, found by MLflow's names, read without pickle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from deltalake import write_deltalake
from support import TestLake, free_port, until

from lake import connect, models, skops_file, store
from udfs.errors import ModelError

WITHOUT_HISTOLAKE = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lake", "udfs", "viewer"):
            raise ModuleNotFoundError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
try:
    import lake
except ModuleNotFoundError:
    pass
else:
    sys.exit("histolake is here")
import numpy
import mlflow.pyfunc

model = mlflow.pyfunc.load_model(sys.argv[1])
rows = numpy.array(json.load(sys.stdin), numpy.float32)
answer = model.predict(rows)
print(json.dumps({"types": [str(type_) for type_ in answer.dtypes], **answer.to_dict("list")}))
"""


def scored(lake: TestLake, model_id: str, rows: int = 40) -> tuple[list[list[float]], np.ndarray[Any, Any]]:
    """Embeddings, and what the SQL function predict says of them."""
    with connect(lake.root, udfs=["predict"]) as con:
        found = con.execute(
            "select embedding, predict($model, embedding) from features order by slide_id desc, y, x limit $rows",
            {"model": model_id, "rows": rows},
        ).fetchall()
    return [[float(number) for number in embedding] for embedding, _ in found], np.array([p for _, p in found])


def store_of(lake: TestLake) -> str:
    """What MLflow calls the lake's own store."""
    return f"sqlite:///{lake.root / 'mlflow/mlflow.db'}"


@pytest.mark.slow
def test_the_logged_model_answers_like_sql_where_histolake_is_not_installed(
    full_lake: TestLake, tmp_path: Path
) -> None:
    row = models.find(full_lake.root)
    embeddings, probabilities = scored(full_lake, row["model_id"])
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", WITHOUT_HISTOLAKE, str(full_lake.root / row["artifact"])],
        input=json.dumps(embeddings),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["types"] == ["float64", "int64"]
    assert np.abs(np.array(answer["probability"]) - probabilities).max() < 1e-5
    assert answer["decision"] == (probabilities >= row["threshold"]).astype(int).tolist()
    assert set(answer["decision"]) == {0, 1}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mlflow_models_serve_answers_a_request(full_lake: TestLake, tmp_path: Path) -> None:
    row = models.find(full_lake.root)
    embeddings, probabilities = scored(full_lake, row["model_id"], rows=3)
    port = free_port()
    words = ["models", "serve", "-m", row["uri"], "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": store_of(full_lake),
        "MLFLOW_REGISTRY_URI": store_of(full_lake),  # an earlier test of this process may have left another's
        "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",  # where uvicorn is
    }
    log = tmp_path / "served.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            env=environment,
            stdout=out,
            stderr=out,
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/ping", server, log), "the server answers", 200)
        for key in ("inputs", "instances"):
            answer = requests.post(f"http://127.0.0.1:{port}/invocations", json={key: embeddings}, timeout=60)
            assert answer.status_code == 200, answer.text
            told = answer.json()["predictions"]
            assert [each["probability"] for each in told] == pytest.approx(list(probabilities), abs=1e-5)
            assert [each["decision"] for each in told] == (probabilities >= row["threshold"]).astype(int).tolist()
        refused = requests.post(f"http://127.0.0.1:{port}/invocations", json={"inputs": [[1.0, 2.0]]}, timeout=60)
        assert refused.status_code == 400
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its workers, too
        server.wait(30)


def answers(url: str, server: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether the server does, which must not have ended."""
    assert server.poll() is None, log.read_text()
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_a_model_is_found_by_every_name_that_mlflow_has_for_it(own_lake: TestLake) -> None:
    root, row = own_lake.root, models.find(own_lake.root)
    client = models.tracking(root)
    client.set_registered_model_alias("histolake", "night", "1")
    client.create_registered_model("ward")
    client.create_model_version("ward", f"runs:/{row['mlflow_run_id']}/model", row["mlflow_run_id"])
    logged = client.get_run(row["mlflow_run_id"]).outputs.model_outputs[0].model_id
    names = [
        *(row["model_id"], row["mlflow_run_id"], "champion", "models:/histolake/1", "models:/histolake@champion"),
        *("models:/histolake@night", "models:/ward/1", f"runs:/{row['mlflow_run_id']}/model", f"models:/{logged}"),
    ]
    assert {models.find(root, name)["model_id"] for name in names} == {row["model_id"]}
    for name in ("models:/histolake@nobody", "models:/histolake/7", "models:/nobody/1", "models:/m-0", "x"):
        with pytest.raises(ModelError, match=row["model_id"]):
            models.find(root, name)


def test_a_model_that_histolake_did_not_train_is_refused_and_told_why(own_lake: TestLake) -> None:
    import mlflow

    models.tracking(own_lake.root)
    with mlflow.start_run() as run:
        mlflow.log_param("made", "elsewhere")
    client = models.tracking(own_lake.root)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///nowhere", run.info.run_id)
    client.create_model_version("foreign", "file:///nowhere")
    for name in ("models:/foreign/1", "models:/foreign/2", f"runs:/{run.info.run_id}/model"):
        answer = own_lake("predict", "--model", name)
        assert answer.status == 1
        assert "was not trained by histolake" in answer.err
        assert "encoder" in answer.err


def test_models_are_scored_side_by_side_listed_and_promoted(own_lake: TestLake) -> None:
    first = models.find(own_lake.root)
    second = own_lake.ok("train", "--encoder", "tiny", "--calibration", "temperature", "--json").json()
    for name in ("models:/histolake/1", "models:/histolake@champion"):
        own_lake.ok("predict", "--model", name)
    counts = dict(own_lake.read("predictions")["model_id"].value_counts().rows())
    assert set(counts) == {first["model_id"], second["model_id"]}
    assert len(set(counts.values())) == 1
    own_lake.ok("models", "promote", "models:/histolake/1")
    assert store.setting(own_lake.root, "champion") == first["model_id"]
    champion = models.tracking(own_lake.root).get_model_version_by_alias("histolake", "champion")
    assert str(champion.version) == "1"
    listed = own_lake.ok("models", "list", "--json").json()
    assert [(each["model_id"], each["is_champion"]) for each in listed] == [
        (first["model_id"], True),
        (second["model_id"], False),
    ]
    assert listed[0]["validation_auc"] > 0.9
    assert listed[1]["threshold"] == second["threshold"]
    assert "by_slide" in own_lake.ok("models", "list").out.replace("\n", "")


def test_a_model_of_an_older_lake_still_scores(full_lake: TestLake) -> None:
    row = models.find(full_lake.root)
    _, before = scored(full_lake, row["model_id"])
    folder = full_lake.root / row["artifact"]
    (folder / "artifacts/head.skops").rename(folder / "model.skops")
    as_it_was_in_format_2(full_lake)
    full_lake.ok("optimize", "models")
    _, after = scored(full_lake, row["model_id"])
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert full_lake.read("models")["sum_bits"].to_list() == [64]
    assert models.load_model(full_lake.root, row["model_id"]).dims == row["dims"]


def test_a_model_of_an_older_lake_without_its_file_says_so_when_it_scores(full_lake: TestLake) -> None:
    row = models.find(full_lake.root)
    (full_lake.root / row["artifact"] / "artifacts/head.skops").unlink()
    as_it_was_in_format_2(full_lake)
    full_lake.ok("optimize", "models")
    with pytest.raises(ModelError, match=r"model_files of .* has no file of it; train again"):
        models.load_model(full_lake.root, row["model_id"])


def as_it_was_in_format_2(lake: TestLake) -> None:
    """Take from the lake what format 3 brought: the files of models, and their lines."""
    rows = lake.read("models").drop("slopes", "intercept", "sum_bits")
    write_deltalake(str(lake.root / "models"), rows.to_arrow(), mode="overwrite", schema_mode="overwrite")
    shutil.rmtree(lake.root / "model_files")
    store.open_table(lake.root, "runs").delete("stage = 'model_files'")
    store.put(lake.root, "settings", [{"name": "format", "value": "2"}], "test")


def test_what_is_not_scikit_learns_own_class_is_neither_written_nor_read() -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    foreign = {
        "another library's class": FunctionTransformer(Path),
        "a function that scikit-learn only imported": FunctionTransformer(_imported_by_sklearn()),
    }
    for number, estimator in enumerate(foreign.values()):
        with pytest.raises(ModelError, match="not scikit-learn's own"):
            skops_file.dumps(estimator)
        with pytest.raises(ModelError, match=f"{number}.skops: holds what is not scikit-learn's own"):
            skops_file.loads(skops.io.dumps(estimator), f"{number}.skops")
    with pytest.raises(ModelError, match="not a skops file"):
        skops_file.loads(b"PK", "damaged.skops")


def _imported_by_sklearn() -> Any:
    from sklearn.datasets import fetch_california_housing

    return fetch_california_housing
