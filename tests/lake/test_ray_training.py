"""Training on a Ray cluster of this machine: shards on workers, a worker that is killed, the deep head."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, TestLake

from lake import engines, models, session, training_rows
from lake.choices import Engine, EngineName
from lake.heads import HEADS
from lake.learning import Learned, learn
from lake.recipe import Recipe, recipe_of
from lake.selection import Labelled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MEMORY = 100_000_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster with two processors."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    kept = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    node = {"num_cpus": 2, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()
    for name, value in kept.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def root(finished: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake after the whole workflow that only these tests use."""
    return Path(shutil.copytree(finished[1] / "lake", tmp_path_factory.mktemp("ray") / "lake"))


def learned_on(root: Path, address: str, recipe: Recipe, workers: int) -> tuple[Learned, Labelled]:
    """What is learned over so many shards, and from what."""
    with (
        engines.reader(Engine(EngineName.ray, address), workers) as read,
        session.connect(root, udfs=()) as con,
    ):
        data = read(con, root, recipe)
        assert data is not None
        return learn(data, recipe), data


def processes_of_ours(name: str) -> list[int]:
    """Ids of this process's descendants whose title starts so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title, parent = (folder / "cmdline").read_bytes().decode(), int(folder.name)
            while parent not in (0, 1, os.getpid()):
                parent = int((Path("/proc") / str(parent) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if title.startswith(name) and parent == os.getpid():
            found.append(int(folder.name))
    return found


def killing(name: str, is_time: Callable[[], bool], work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` returns while one of our processes of that name is killed, when it is time; and how many were."""
    killed: list[int] = []
    over = threading.Event()

    def wait() -> None:
        while not over.is_set() and not killed:
            if is_time() and (found := processes_of_ours(name)):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            time.sleep(0.05)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        return work(), len(killed)
    finally:
        over.set()
        thread.join(60)


def recipe_in(root: Path, **how: str) -> Recipe:
    """The recipe of the lake's first model, and what is different."""
    return replace(recipe_of(models.rows(root)[-1]), **how)


def test_the_linear_model_over_two_workers_is_the_local_one_and_survives_a_kill(root: Path, address: str) -> None:
    recipe = recipe_in(root)
    with session.connect(root, udfs=()) as con:
        here = learn(training_rows.training_set(con, recipe), recipe)
    there, data = learned_on(root, address, recipe, workers=2)
    assert not hasattr(data, "x")
    assert len(data.starts) == 2
    assert there.chosen.parameters == here.chosen.parameters
    assert np.abs(there.estimator[-1].coef_ - here.estimator[-1].coef_).max() < 1e-4
    (again, _), kills = killing(
        "ray::ShardWorker.ask", lambda: True, lambda: learned_on(root, address, recipe, workers=2)
    )
    assert kills == 1
    assert again.model_id == there.model_id


def test_train_on_ray_registers_a_champion_that_predicts(root: Path, address: str) -> None:
    lake = TestLake(root)
    words = ("train", "--encoder", "tiny", "--calibration", "platt", "--engine", "ray", "--address", address)
    made = lake.ok(*words, "--workers", "2", "--json").json()
    assert made["is_champion"]
    assert made["metrics"]["validation_auc"] > 0.9
    assert lake.ok("train", "--encoder", "tiny", "--calibration", "platt", "--json").json()["is_new"] is False
    lake.ok("predict")
    assert set(lake.read("predictions")["model_id"]) >= {made["model_id"]}
    again = lake.ok("reproduce", "champion").err  # in the same shards, here
    assert "the model itself" in " ".join(again.split())
    assert "mlp is fitted in one process" in lake(*words, "--head", "mlp").err
    assert "add --engine ray" in lake("train", "--workers", "2").err


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deep head is fitted for 300 steps, however good it is before."""
    monkeypatch.setitem(HEADS, "deep", replace(HEADS["deep"], candidates=({"steps": 300},)))


def test_two_workers_train_the_deep_head_to_the_loss_of_one_and_go_on_after_a_kill(
    root: Path, address: str, steady: None
) -> None:
    """The batches are the same: what differs is the rounding of sums, in float32, and what 300 steps make of it."""
    recipe = recipe_in(root, head="deep")
    with session.connect(root, udfs=()) as con:
        here = learn(training_rows.training_set(con, recipe), recipe)
    one, _ = learned_on(root, address, recipe, workers=1)
    assert one.model_id == here.model_id  # the same code, whoever runs it
    folder = root / "training"

    def is_saved() -> bool:
        return next(folder.glob("*/checkpoint*"), None) is not None

    (two, data), kills = killing("ray::RayTrainWorker", is_saved, lambda: learned_on(root, address, recipe, workers=2))
    assert kills == 1
    assert len(data.starts) == 2
    assert len(one.estimator.losses) == 3
    np.testing.assert_allclose(two.estimator.losses, one.estimator.losses, rtol=1e-3)
    assert one.estimator.losses[-1] < one.estimator.losses[0]
    assert not list(folder.glob("*"))


def test_train_on_ray_makes_the_deep_head_the_champion(root: Path, address: str) -> None:
    lake = TestLake(root)
    words = ("train", "--encoder", "tiny", "--head", "deep", "--engine", "ray", "--address", address, "--workers", "2")
    made = lake.ok(*words, "--json").json()
    assert made["is_champion"]
    assert made["metrics"]["validation_auc"] > 0.9
    assert models.find(root)["head"] == "deep"
    lake.ok("predict")
    scored = lake.read("predictions").filter(model_id=made["model_id"])
    assert len(scored) > 100
    assert "--engine ray --workers 2" in lake("reproduce", "champion").err
