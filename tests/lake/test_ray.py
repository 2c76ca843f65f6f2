"""A Ray cluster of three nodes does what this process does, whatever dies: the tables end equal, row for row."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import object_stores
import polars as pl
import pytest
from conftest import new_lake, write_slides
from object_stores import BUCKET, Store
from polars.testing import assert_frame_equal
from rich.console import Console
from support import ROOT, TestLake, until, write_slide

from lake import encoder_cache, engines, session, sql_files, store, workflow
from lake.choices import Engine, EngineName, lake_path
from lake.progress import Progress
from lake.units import Outcome, Unit
from lake.worker import Job
from udfs.addresses import KEY_VARIABLE
from udfs.registry import rows_seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEW = ("--patch-px", "64", "--mpp", "1", "--encoder", "tiny")
MANY = ("--patch-px", "16", "--mpp", "1", "--encoder", "tiny")  # two parts on a slide of 2048 x 1536 px
TRIES = 8
LARGE = 3  # slides of two parts
ENDED_S = 280  # within which a command ends


class Nodes:
    """A cluster on this machine: a head and two nodes more, each of one CPU, whose workers are told of a key file."""

    def __init__(self, key: Path) -> None:
        cluster_utils = pytest.importorskip("ray.cluster_utils")
        self.key = key
        self.cluster = cluster_utils.Cluster()
        self._add(include_dashboard=False)
        self.others = [self._add() for _ in range(2)]

    @property
    def engine(self) -> tuple[str, ...]:
        """The options that make a command use it."""
        return ("--engine", "ray", "--address", self.cluster.address)

    def kill_one(self) -> None:
        """SIGKILL everything of a node that is not the head."""
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def fill(self) -> None:
        """Be three nodes again."""
        while len(self.others) < 2:
            self.others.append(self._add())

    def _add(self, **options: object) -> object:
        """Ray gives a node 30 seconds to start; a busy machine needs more tries."""
        options |= {**ONE_CPU, "env_vars": {KEY_VARIABLE: str(self.key)}}
        for _ in range(TRIES - 1):
            with suppress(Exception):
                return self.cluster.add_node(**options)
        return self.cluster.add_node(**options)

    def workers(self) -> list[int]:
        """Processes of our workers."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = (folder / "cmdline").read_bytes().startswith(b"ray::RayWorker")
                raylet = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if is_ours and raylet in {each.process.pid for each in self._raylets()}:
                found.append(int(folder.name))
        return found

    def _raylets(self) -> Iterator[object]:
        for node in (self.cluster.head_node, *self.others):
            yield from node.all_processes["raylet"]


ONE_CPU = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A bucket."""
    with object_stores.moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, moto: Store) -> Iterator[Nodes]:
    """The cluster; its workers keep encoders in a cache of their own, and know the bucket's credentials."""
    before = dict(os.environ)
    os.environ["HISTOLAKE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.update(moto.environment())
    made = Nodes(tmp_path_factory.mktemp("keys") / "key.sqlite")
    try:
        yield made
    finally:
        made.cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> TestLake:
    """A lake on which everything was done in this process."""
    folder = tmp_path_factory.mktemp("local")
    write_slides(folder / "slides")
    lake = new_lake(folder / "lake", tiny_onnx)
    everything(lake, folder / "slides")
    return lake


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> tuple[TestLake, TestLake]:
    """A lake with slides of several parts that wait for their features, and its copy where this process made them."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "slides").mkdir()
    for number in range(LARGE):
        write_slide(folder / "slides" / f"s{number}.tif", tissue=(0, 0, 2048, 1536), size=(2048, 1536))
    lake = new_lake(folder / "lake", tiny_onnx)
    lake.ok("ingest", str(folder / "slides"))
    lake.ok("run", *MANY, "--stage", "patches")
    done = TestLake(Path(shutil.copytree(lake.root, folder / "done")))
    done.ok("run", *MANY, "--stage", "features")
    return lake, done


@pytest.fixture
def waiting(large: tuple[TestLake, TestLake], tmp_path: Path) -> TestLake:
    """A lake whose slides of several parts wait for their features."""
    return TestLake(Path(shutil.copytree(large[0].root, tmp_path / "lake")))


def everything(lake: TestLake, slides: Path, *engine: str) -> None:
    """The whole workflow."""
    where = (str(slides), "--annotations", str(slides), "--manifest", str(slides / "manifest.csv"))
    lake.ok("ingest", *where, *engine)
    lake.ok("run", *FEW, *engine)
    lake.ok("train", "--encoder", "tiny")
    lake.ok("predict", *engine)
    lake.ok("evaluate", *engine)


def assert_equal(found: TestLake, wanted: TestLake, *tables: str) -> None:
    """Both lakes hold the same rows, and their ledgers tell of the same units."""
    for name in tables:
        rows = [lake.read(name) for lake in (found, wanted)]
        key = sql_files.stages(wanted.root)[name].key
        assert rows[0].height > 0, name
        assert_frame_equal(*(each.sort(key) for each in rows), check_exact=True)
        assert rows[0].select(key).is_duplicated().sum() == 0
    unit = ["stage", "slide_id", "identity", "part", "fingerprint", "status", "rows", "errors", "error"]
    ledgers = [
        lake.read("runs").filter(pl.col("stage").is_in(tables), pl.col("slide_id").is_not_null())
        for lake in (found, wanted)
    ]
    assert_frame_equal(*(ledger.select(unit).unique().sort(unit) for ledger in ledgers))
    for row in ledgers[0].select("stage", "table_version").unique().drop_nulls().to_dicts():
        assert row["table_version"] <= store.open_table(found.root, row["stage"]).version()
    found.ok("check")


@contextmanager
def started(lake: TestLake, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command on the lake, in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "lake", *words, "--lake", str(lake.root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def wait(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something while the process runs."""
    until(lambda: happened() or process.poll() is not None, "it happens while the command runs", ENDED_S)
    assert happened(), process.communicate(timeout=60)


def test_every_stage_on_a_cluster_writes_what_one_process_writes(
    nodes: Nodes, local: TestLake, tmp_path: Path, tiny_onnx: Path
) -> None:
    lake = new_lake(tmp_path / "lake", tiny_onnx)
    everything(lake, local.root.parent / "slides", *nodes.engine)
    assert_equal(lake, local, "slides", "annotations", "patches", "features", "labels", "predictions", "detections")
    before = lake.versions()
    lake.ok("run", *FEW, *nodes.engine)
    lake.ok("predict", *nodes.engine)
    assert lake.versions() == before


def test_a_lake_in_a_bucket_is_filled_on_a_cluster_with_what_a_folder_holds(
    nodes: Nodes, local: TestLake, tiny_onnx: Path
) -> None:
    lake = new_lake(lake_path(f"s3://{BUCKET}/on/ray"), tiny_onnx)
    everything(lake, local.root.parent / "slides", *nodes.engine)
    assert_equal(lake, local, "slides", "annotations", "patches", "features", "labels", "predictions", "detections")


def test_a_lake_of_pseudonyms_needs_the_key_file_on_every_node(
    nodes: Nodes, local: TestLake, tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, key = new_lake(tmp_path / "lake", tiny_onnx), tmp_path / "key.sqlite"
    words = ("ingest", str(local.root.parent / "slides"), "--pseudonymize", str(key), *nodes.engine)
    answer = lake(*words)
    assert answer.status == 1
    [said] = [line for line in answer.err.splitlines() if line.startswith("histolake: ")]
    assert f"{nodes.key}: the key file cannot be read" in said
    assert lake.read("runs").filter(status="failed").is_empty()
    shutil.copy2(key, nodes.key)
    lake.ok(*words)
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    lake.ok("run", *FEW, *nodes.engine)
    slides = lake.read("slides")
    assert set(slides["status"]) == {"ok"}
    assert all(each.startswith("slide-") for each in slides["slide_id"])
    rows = [each.read("features").group_by("slide_id").len()["len"].sort() for each in (lake, local)]
    assert rows[0].equals(rows[1])
    lake.ok("check")


def test_a_task_that_runs_twice_is_there_once(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lake import ray_cluster
    from lake.ray_worker import RayWorker

    class DiesOnce(RayWorker):
        """Dies after the first task that is committed, before the driver hears of it."""

        def do(self, units: Sequence[Unit], *, at_once: bool) -> list[Outcome]:
            committed = super().do(units, at_once=at_once) + self.flush()
            mark = Path(os.environ["HISTOLAKE_CACHE"]) / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return committed

    monkeypatch.setattr(ray_cluster, "ACTOR", ray_cluster.ray.remote(DiesOnce))
    waiting.ok("run", *MANY, *nodes.engine, "--stage", "features")
    done = waiting.read("runs").filter(stage="features", status="ok")
    times = done.group_by("slide_id", "identity", "part").len()["len"]
    assert times.max() == 2
    assert_equal(waiting, large[1], "features")


def test_a_node_that_is_killed_loses_and_doubles_nothing(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake
) -> None:
    try:
        with started(waiting, "run", *MANY, *nodes.engine, "--stage", "features") as process:
            wait(lambda: not waiting.read("features").is_empty(), process)
            nodes.kill_one()
            _, said = process.communicate(timeout=ENDED_S)
        assert process.returncode == 0, said
        assert "ray" not in said  # nor any of its noise
    finally:
        nodes.fill()
    assert_equal(waiting, large[1], "features")


def test_workers_that_are_killed_as_by_the_kernel_for_want_of_memory_lose_and_double_nothing(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake
) -> None:
    with started(waiting, "run", *MANY, *nodes.engine, "--stage", "features") as process:
        wait(nodes.workers, process)
        os.kill(nodes.workers()[0], signal.SIGKILL)  # while it starts
        wait(lambda: not waiting.read("features").is_empty(), process)
        for worker in nodes.workers():
            os.kill(worker, signal.SIGKILL)
        _, said = process.communicate(timeout=ENDED_S)
    assert process.returncode == 0, said
    assert_equal(waiting, large[1], "features")


def test_a_run_that_is_stopped_keeps_what_is_done_and_goes_on(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake
) -> None:
    words = ["run", *MANY, *nodes.engine, "--stage", "features"]
    with started(waiting, *words) as process:
        wait(lambda: not waiting.read("features").is_empty(), process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=ENDED_S)
    assert process.returncode == 130, said
    assert said.splitlines() == ["histolake: stopped; what was committed stays, the same command goes on from there"]
    assert 0 < waiting.read("features").height < LARGE * 12288
    assert waiting.read("runs").filter(stage="features", status="failed").is_empty()
    waiting.ok(*words)
    assert_equal(waiting, large[1], "features")


def test_two_clusters_on_one_lake_lose_and_double_nothing(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake
) -> None:
    words = ["run", *MANY, "--stage", "features", "--engine", "ray"]
    with (
        started(waiting, *words, "--address", nodes.cluster.address) as one,
        started(waiting, *words) as other,
    ):
        said = [process.communicate(timeout=ENDED_S)[1] for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], said
    assert_equal(waiting, large[1], "features")


def test_a_slide_that_cannot_be_read_is_told_as_one_process_tells_it(
    nodes: Nodes, tmp_path: Path, tiny_onnx: Path
) -> None:
    write_slides(tmp_path / "slides")
    lakes = [new_lake(tmp_path / name, tiny_onnx) for name in ("here", "there")]
    for lake in lakes:
        lake.ok("ingest", str(tmp_path / "slides"))
    bad = tmp_path / "slides" / "tumor_1.tif"
    state, whole = bad.stat(), bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 3])
    os.utime(bad, ns=(state.st_atime_ns, state.st_mtime_ns))
    answers = [lake("run", *FEW, *engine) for lake, engine in zip(lakes, ((), nodes.engine), strict=True)]
    assert [answer.status for answer in answers] == [1, 1]
    failures = [sorted(line for line in answer.err.splitlines() if "failed" in line) for answer in answers]
    assert failures[0] == failures[1] != []
    assert_equal(lakes[1], lakes[0], "patches", "features")


def test_an_encoder_that_is_gone_stops_the_run_and_blames_no_slide(
    nodes: Nodes, local: TestLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = TestLake(Path(shutil.copytree(local.root, tmp_path / "lake")))
    shutil.rmtree(lake.root / "onnx")
    shutil.rmtree(Path(os.environ["HISTOLAKE_CACHE"]) / "encoders")
    answer = lake("run", "--patch-px", "32", "--mpp", "1", "--encoder", "tiny", *nodes.engine)
    assert answer.status == 1
    assert answer.err.count("histolake: ") == 1, answer.err
    assert "failed:" not in answer.err
    assert lake.read("runs").filter(stage="features", status="failed").is_empty()


def test_an_encoder_is_sent_and_kept_and_the_bar_counts_what_workers_do(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake
) -> None:
    shutil.rmtree(Path(os.environ["HISTOLAKE_CACHE"]) / "encoders", ignore_errors=True)
    shown, before = io.StringIO(), rows_seen["embed"]
    wanted = workflow.Wanted(stages=("features",), patch_px=16, mpp=1.0, encoder="tiny")
    engine = Engine(EngineName.ray, nodes.cluster.address)
    with engines.executor(engine) as executor:
        bars = Progress(Console(file=shown, force_terminal=True, width=120))
        workflow.run(waiting.root, wanted, run_id="a run", executor=executor, progress=bars)
    assert f"{LARGE * 12288}/{LARGE * 12288}" in shown.getvalue()
    assert f"{LARGE}/{LARGE} slides" in shown.getvalue()
    assert 0 < rows_seen["embed"] - before <= LARGE * 12288  # asked for while they were counted
    [sha256] = waiting.read("encoders").filter(name="tiny")["sha256"].to_list()
    kept = encoder_cache.cached(sha256)
    assert kept is not None
    assert kept.read_bytes() == session.encoder_file(waiting.root, sha256).read_bytes()
    assert_equal(waiting, large[1], "features")


def test_workers_that_rays_memory_monitor_kills_lose_and_double_nothing(
    nodes: Nodes, large: tuple[TestLake, TestLake], waiting: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that thinks its memory full as soon as a hundredth of the machine's is used."""
    nodes.kill_one()
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    nodes.fill()
    try:
        with started(waiting, "run", *MANY, *nodes.engine, "--stage", "features") as process:
            _, said = process.communicate(timeout=ENDED_S)
    finally:
        nodes.kill_one()
        monkeypatch.undo()
        nodes.fill()
    assert process.returncode == 0, said
    logs = Path(nodes.cluster.head_node.get_logs_dir_path()).glob("raylet*.out")
    assert any("Selected to kill: (Task" in log.read_text() and "RayWorker" in log.read_text() for log in logs)
    assert_equal(waiting, large[1], "features")


def test_what_no_node_can_give_is_refused(nodes: Nodes, waiting: TestLake) -> None:
    answer = waiting("run", *MANY, *nodes.engine, "--gpus-per-worker", "0.5")
    assert answer.status == 1
    assert "no node of the cluster has 1 CPU and 0.5 GPU for a worker" in answer.err


def test_workers_of_another_version_are_refused(
    nodes: Nodes, waiting: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CODE_VERSION", "9.9")
    answer = waiting("run", *MANY, *nodes.engine)
    assert answer.status == 1
    assert "9.9 here; install the same version on every node" in answer.err


def test_a_cluster_of_another_version_of_ray_is_refused(
    nodes: Nodes, waiting: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "__version__", "2.0.0")
    answer = waiting("run", *MANY, *nodes.engine)
    assert answer.status == 1
    [said] = answer.err.splitlines()
    assert f"no cluster at {nodes.cluster.address}: Version mismatch" in said


def test_a_lake_that_a_node_does_not_have_is_named_with_the_node(
    nodes: Nodes, waiting: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when each node has a folder of that name, and not the same."""
    from lake import ray_cluster

    elsewhere = waiting.root.with_name("elsewhere")
    job = ray_cluster.ray.put

    def put(value: object) -> object:
        return job(replace(value, root=elsewhere) if isinstance(value, Job) else value)

    monkeypatch.setattr(ray_cluster.ray, "put", put)
    answer = waiting("run", *MANY, *nodes.engine)
    assert answer.status == 1
    assert re.search(rf"\d+\.\d+\.\d+\.\d+: {elsewhere}: no lake here", answer.err)
