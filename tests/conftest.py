"""Fixtures that several test folders share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from support import SHARED, Answer, TestLake, run, run_command, write_slide

from lake import creation, encoders
from udfs.encoders.encoder import describe

LONGEST = (  # files of slow tests, few in each: begun last, one of them would be waited for
    "test_ray",
    "test_resources",
    "test_object_storage",
    "test_browser_login",
    "test_acceptance",
    "test_deployment",
    "test_workbench",
    "test_workflow",
    "test_ray_training",
    "test_kills",
    "test_soak",
    "test_bad_slides",
    "test_hostile_files",
    "test_privacy",
    "test_readme",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first; `make test-slow` has pytest-xdist keep this order."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real encoder that takes no time: mean and mean square of each channel, 16 px in, 6 features out."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
        helper.make_node("Mul", ["pixels", "pixels"], ["square"]),
        helper.make_node("GlobalAveragePool", ["square"], ["power"]),
        helper.make_node("Concat", ["mean", "power"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 6])],
    )
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def new_lake(root: Path, tiny_onnx: Path) -> TestLake:
    """An empty lake that knows the tiny encoder."""
    creation.create(root)
    spec = describe("tiny", tiny_onnx, preprocessing={"scale": 1 / 255}, precision="fp32", source="a test")
    encoders.add(root, spec, tiny_onnx, "test")
    return TestLake(root)


def write_slides(folder: Path) -> None:
    """Four slides with tumor and two without, in fixed splits by their manifest."""
    folder.mkdir()
    rows = ["slide_id,path,split"]
    for number, split in enumerate(["train", "train", "validation", "test"], start=1):
        write_slide(folder / f"tumor_{number}.tif", tumor=(320, 192, 64 * (number + 1), 256))
        rows.append(f"tumor_{number},tumor_{number}.tif,{split}")
    for number, split in enumerate(["train", "test"], start=1):
        write_slide(folder / f"normal_{number}.tif")
        rows.append(f"normal_{number},normal_{number}.tif,{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="session")
def empty_lake(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    """The lake that `lake` is a copy of."""
    return new_lake(tmp_path_factory.mktemp("empty") / "lake", tiny_onnx).root


@pytest.fixture
def lake(tmp_path: Path, empty_lake: Path) -> TestLake:
    """An empty lake that knows the tiny encoder."""
    return TestLake(Path(shutil.copytree(empty_lake, tmp_path / "lake")))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> tuple[Path, Path]:
    """A folder with slides/ and lake/ after the whole workflow, and a copy to restore it from."""
    folder = tmp_path_factory.mktemp("finished")
    now, kept = folder / "now", folder / "kept"
    now.mkdir()
    write_slides(now / "slides")
    lake = new_lake(now / "lake", tiny_onnx)
    lake.ok(
        "ingest",
        str(now / "slides"),
        "--annotations",
        str(now / "slides"),
        "--manifest",
        str(now / "slides/manifest.csv"),
    )
    lake.ok("run", *lake.tiling)
    lake.ok("train", "--encoder", "tiny")
    lake.ok("predict")
    lake.ok("evaluate")
    shutil.copytree(now, kept)
    return now, kept


@pytest.fixture
def full_lake(finished: tuple[Path, Path]) -> TestLake:
    """The lake after the whole workflow on `slides`, fresh for each test, always at the same path."""
    now, kept = finished
    shutil.rmtree(now)
    shutil.copytree(kept, now)
    return TestLake(now / "lake")


@pytest.fixture
def own_lake(full_lake: TestLake, tmp_path: Path) -> TestLake:
    """A copy of `full_lake` at a path that no other test has: MLflow keeps files open, so only there may it write."""
    return TestLake(Path(shutil.copytree(full_lake.root, tmp_path / "own_lake")))


@pytest.fixture
def slides(full_lake: TestLake) -> Path:
    """The folder of the slides of `full_lake`."""
    return full_lake.root.parent / "slides"


@pytest.fixture
def command() -> Callable[..., Answer]:
    """`histolake WORDS`: exit status, stdout, stderr."""
    return run_command


@pytest.fixture(scope="session")
def mosaic_tool() -> Callable[..., Path]:
    """The builder of slides from real Camelyon16 patches; the test skips where it is missing."""
    tool, patches = SHARED / "tools" / "mosaic.py", SHARED / "data" / "pcam"
    if not tool.is_file() or not patches.is_dir():
        pytest.skip("the real patches are not here: ../shared/data/pcam and ../shared/tools/mosaic.py are needed")

    def build(out: Path, *, source: str = "train", **options: int) -> Path:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        run([sys.executable, tool, "--patches", patches / f"{source}.parquet", "--out", out, *words], check=True)
        return out

    return build
