"""The deep head in one process: what it promises, its ONNX file, and all that commands do with a model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
from sklearn.metrics import roc_auc_score
from support import TestLake

from lake import connect, deep, model_files, models
from lake.classifier import Classifier
from lake.heads import HEADS
from lake.learning import learn
from lake.network import Network
from lake.recipe import Recipe
from lake.row_sums import RowSums
from lake.selection import TrainingSet

torch = pytest.importorskip("torch")

RECIPE = Recipe("patches", "encoder", "centre", head="deep")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Sequence[dict[str, int]]:
    """Few steps."""
    few = ({"steps": 20}, {"steps": 40})
    head = HEADS["deep"]
    monkeypatch.setitem(HEADS, "deep", type(head)(head.name, head.about, head.fits, few))
    return few


def patches(count: int, *, share: float = 0.3, dims: int = 12, seed: int = 0) -> TrainingSet:
    """Classes that a product of two features tells apart; the last slides are for validation."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 1, size=(count, dims)).astype(np.float32)
    score = 0.7 * x[:, 0] + 1.5 * (x[:, 1] - 3) * (x[:, 2] - 3) + rng.normal(scale=0.5, size=count)
    slide = np.arange(count) * 6 // count
    y = (score > np.quantile(score, 1 - share)).astype(np.int64)
    return TrainingSet(x, y, np.array([f"s{number}" for number in slide]), slide > 3)


def fitted(data: TrainingSet, steps: int) -> Network:
    return HEADS["deep"].fit(data.x, data.y, steps=steps)


def test_it_learns_what_no_line_tells_and_its_probabilities_are_those_of_the_patches_seen() -> None:
    data, fresh = patches(4000), patches(2000, seed=1)
    network = fitted(data, 200)
    probability = network.predict_proba(fresh.x)[:, 1]
    line = HEADS["logistic"].fit(data.x, data.y, C=1.0).predict_proba(fresh.x)[:, 1]
    assert roc_auc_score(fresh.y, probability) > roc_auc_score(fresh.y, line) + 0.1
    assert abs(probability.mean() - 0.3) < 0.05  # nearer to half, had the weights of the fit been left in
    assert network.losses[-1] < network.losses[0]


def test_the_onnx_file_answers_as_torch_does() -> None:
    data = patches(600)
    training = deep.Training(
        deep.Portion(data.x, data.y, np.arange(600)), RowSums(data.x, data.y, np.arange(600)).moments()
    )
    training.fit(30)
    network = training.network()
    onnx.checker.check_model(onnx.load_model_from_string(network.content), full_check=True)
    moments = RowSums(data.x, data.y, np.arange(600)).moments()
    scaled = torch.from_numpy(((data.x - moments.mean) / moments.scale).astype(np.float32))
    with torch.no_grad():
        odds = training._mean_network(scaled).squeeze(1).numpy() + np.log(moments.counts[1] / moments.counts[0])
    assert np.abs(network.decision_function(data.x) - odds).max() < 1e-5
    assert np.abs(Classifier(network, 12).probability(data.x) - 1 / (1 + np.exp(-odds))).max() < 1e-5
    assert network.dims == 12


def test_gradients_of_several_workers_add_up_to_those_of_one() -> None:
    """The batches are the same: what differs after a step is the rounding of sums, in float32."""
    data, rows = patches(1000), np.arange(1000)
    moments = RowSums(data.x, data.y, rows).moments()
    one = deep.Training(deep.Portion(data.x, data.y, rows), moments)
    parts = [(rows[:130], 0), (rows[130:130], 130), (rows[130:], 130)]
    several = [deep.Training(deep.Portion(data.x, data.y, some, first), moments) for some, first in parts]
    loss = one.fit(1)
    assert sum(each.fit(1) for each in several) == pytest.approx(loss, rel=1e-5)
    gradients = [[part.grad for part in each._network.parameters()] for each in (one, *several)]
    for whole, *some in zip(*gradients, strict=True):
        np.testing.assert_allclose(torch.stack(some).sum(dim=0), whole, rtol=1e-4, atol=1e-6)


def test_going_on_from_a_state_is_not_to_be_told_from_never_having_stopped() -> None:
    data, rows = patches(900), np.arange(900)
    moments = RowSums(data.x, data.y, rows).moments()
    unbroken, first, second = (deep.Training(deep.Portion(data.x, data.y, rows), moments) for _ in range(3))
    unbroken.fit(20)
    first.fit(9)
    second.go_on(first.state())
    second.fit(11)
    assert second.network().content == unbroken.network().content


def test_the_same_patches_give_the_same_network_whatever_the_threads(hasty: Any) -> None:
    data, found = patches(700), set()
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.add(learn(data, RECIPE).model_id)
    torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("calibration", ["platt", "temperature"])
def test_calibration_is_scikit_learns_and_becomes_part_of_the_network(calibration: str, hasty: Any) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    data = patches(900)
    plain = learn(data, RECIPE).estimator
    moved = learn(data, Recipe("patches", "encoder", "centre", head="deep", calibration=calibration)).estimator
    held, scores = data.is_validation, plain.decision_function(data.x)[:, None]
    same = LogisticRegression()
    same.classes_, same.coef_, same.intercept_ = np.array([0, 1]), np.array([[1.0]]), np.array([0.0])
    method = {"platt": "sigmoid"}.get(calibration, calibration)
    expected = CalibratedClassifierCV(FrozenEstimator(same), method=method).fit(scores[held], data.y[held])
    assert isinstance(moved, Network)
    difference = moved.predict_proba(data.x)[:, 1] - expected.predict_proba(scores)[:, 1]
    assert np.abs(difference).max() < 1e-5


def test_a_network_travels_as_its_file_and_refuses_what_is_no_number(hasty: Any) -> None:
    data = patches(300)
    network = fitted(data, 20)
    network.predict_proba(data.x)  # with a session open
    import pickle

    again = pickle.loads(pickle.dumps(network))
    assert joblib.hash(again) == joblib.hash(Network(network.content, network.losses))
    assert np.array_equal(again.predict_proba(data.x), network.predict_proba(data.x))
    data.x[7, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        network.predict_proba(data.x)


@pytest.mark.parametrize("rows", [2, 3, 201])
def test_few_patches_are_enough_to_fit(rows: int) -> None:
    x = patches(rows).x
    network = HEADS["deep"].fit(x, np.arange(rows) % 2, steps=5)
    assert np.isfinite(network.predict_proba(x)).all()


def test_without_pytorch_a_sentence_says_what_to_do(full_lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = full_lake("train", "--encoder", "tiny", "--head", "deep")
    assert answer.status == 1
    assert "PyTorch, which is not installed here" in answer.err
    assert "Traceback" not in answer.err


SERVED = """
import json, sys
import numpy, mlflow.pyfunc
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.array(json.load(sys.stdin), numpy.float32))
assert not {"torch", "lake", "sklearn.linear_model"} & set(sys.modules), sorted(sys.modules)
print(json.dumps(answer.to_dict("list")))
"""


@pytest.mark.slow
def test_a_deep_model_is_trained_promoted_predicted_measured_compared_and_served(
    own_lake: TestLake, tmp_path: Path
) -> None:
    before = models.find(own_lake.root)
    made = own_lake.ok("train", "--encoder", "tiny", "--head", "deep", "--calibration", "temperature", "--json").json()
    assert made["is_new"]
    assert made["is_champion"]
    assert made["metrics"]["validation_auc"] > 0.9
    row = models.find(own_lake.root)
    assert (row["head"], row["slopes"]) == ("deep", None)
    own_lake.ok("predict")
    own_lake.ok("evaluate")
    assert made["model_id"] in set(own_lake.read("metrics")["model_id"])
    with connect(own_lake.root, udfs=["predict"]) as con:
        found = con.execute(
            "select f.embedding, p.probability, predict($model, f.embedding) from slide_features as f "
            "inner join predictions as p using (slide_id, patch_set, x, y) where p.model_id = $model order by all",
            {"model": made["model_id"]},
        ).fetchall()
    embeddings = np.array([embedding for embedding, _, _ in found], np.float32)
    kept = model_files.read(own_lake.root, made["model_id"])
    assert isinstance(kept, Network)
    expected = kept.predict_proba(embeddings)[:, 1]
    for number in (1, 2):
        assert np.abs(np.array([each[number] for each in found]) - expected).max() < 1e-5
    assert (
        own_lake.ok("train", "--encoder", "tiny", "--head", "deep", "--calibration", "temperature", "--json").json()[
            "is_new"
        ]
        is False
    )
    assert "the model itself" in " ".join(own_lake.ok("reproduce", "champion").err.split())
    own_lake.ok("compare", before["model_id"], "champion")
    some = own_lake.read("predictions").filter(model_id=made["model_id"]).row(0, named=True)
    own_lake.ok("explain", some["slide_id"], str(some["x"]), str(some["y"]))
    assert own_lake.ok("models", "list", "--json").json()[0]["head"] == "deep"
    curve = models.tracking(own_lake.root).get_metric_history(made["mlflow_run_id"], "training_loss")
    assert [each.step for each in curve] == [100]  # after them no patch of the validation slides is ranked wrongly
    assert own_lake.ok("check").status == 0
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", SERVED, str(own_lake.root / row["artifact"])],
        input=json.dumps(embeddings[:40].tolist()),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert np.abs(np.array(answer["probability"]) - expected[:40]).max() < 1e-6
    assert answer["decision"] == (expected[:40] >= row["threshold"]).astype(int).tolist()
