"""The whole workflow on real tissue, by the commands that a person types."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from support import ROOT, SHARED, TestLake, run
from test_docs import load

from lake import connect, store

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

TILING = ("--patch-px", "96", "--mpp", "0.972", "--min-tissue", "0.05", "--encoder", "efficientnet_lite0")

VALIDATION = ("tumor_009", "tumor_010", "normal_005", "normal_006")
PAGE = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
transcript = load(ROOT / "docs/transcript.py")


@dataclass(frozen=True)
class Camelyon:
    """A folder with mosaics of real patches, train/ and test/ (which share no patient), and the lake made of them."""

    folder: Path
    lake: TestLake

    @property
    def truth(self) -> pl.DataFrame:
        """slide_id, x, y, truth: every tissue cell and its label."""
        parts = [pl.read_csv(self.folder / part / "truth.csv") for part in ("train", "test")]
        return pl.concat(parts).rename({"slide": "slide_id", "label": "truth"})


def histolake(folder: Path, *words: str) -> str:
    """Run a command in `folder`; it must succeed. Returns its output."""
    command = [sys.executable, "-m", "lake", *words, "--lake", "L"]
    return run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=900, check=True).stdout


@pytest.fixture(scope="module")
def camelyon(tmp_path_factory: pytest.TempPathFactory, mosaic_tool: Callable[..., Path]) -> Camelyon:
    """12 training, 4 validation and 4 test slides after the whole workflow; docs/evaluation.md goes on from here."""
    folder = tmp_path_factory.mktemp("camelyon")
    mosaic_tool(folder / "train", tumor=10, normal=6)
    mosaic_tool(folder / "test", source="valid", tumor=3, normal=1, grid=24, first=101)
    slides = [(path.stem, part) for part in ("train", "test") for path in sorted((folder / part).glob("*.tif"))]
    rows = [f"{slide},{'validation' if slide in VALIDATION else part}" for slide, part in slides]
    (folder / "manifest.csv").write_text("\n".join(["slide_id,split", *rows]))
    annotations = ("--annotations", "train/*.xml", "--annotations", "test/*.xml")
    histolake(folder, "ingest", "train/*.tif", "test/*.tif", *annotations, "--manifest", "manifest.csv")
    histolake(folder, "run", *TILING)
    histolake(folder, "train")
    histolake(folder, "predict")
    histolake(folder, "evaluate", "--json")
    return Camelyon(folder, TestLake(folder / "L"))


def test_patches_are_the_tissue_cells_and_no_background(camelyon: Camelyon) -> None:
    patches, truth = camelyon.lake.read("patches"), camelyon.truth
    cells = ["slide_id", "x", "y"]
    assert patches.join(truth, on=cells, how="anti").height == 0
    assert patches.join(truth, on=cells, how="semi").height >= 0.99 * truth.height


def test_every_label_is_the_truth(camelyon: Camelyon) -> None:
    labels = camelyon.lake.read("labels").join(camelyon.truth, on=["slide_id", "x", "y"], how="left")
    assert labels.height == camelyon.lake.read("patches").height
    assert labels.filter(pl.col("label") != pl.col("truth")).height == 0
    assert labels["truth"].null_count() == 0


def test_the_model_tells_tumor_on_slides_of_patients_it_never_saw(camelyon: Camelyon) -> None:
    metrics = camelyon.lake.read("metrics").filter(split="test", scope="patch")
    value = dict(metrics.select("name", "value").rows())
    assert value["auc"] >= 0.90
    assert value["patches"] > 800
    with connect(camelyon.lake.root) as con:
        patch_sets = con.sql("select distinct patch_set, encoder_id from models").fetchall()
    assert len(patch_sets) == 1
    assert patch_sets[0][1].startswith("efficientnet_lite0")


def test_every_promise_is_kept(camelyon: Camelyon) -> None:
    histolake(camelyon.folder, "check")


def test_a_second_run_does_no_work(camelyon: Camelyon) -> None:
    before = camelyon.lake.versions()
    assert all(stage["units"] == 0 for stage in camelyon.lake.ok("run", *TILING, "--json").json())
    assert all(stage["units"] == 0 for stage in camelyon.lake.ok("predict", "--json").json())
    assert camelyon.lake.versions() == before


def test_a_real_scanners_slide_goes_through_alone(camelyon: Camelyon, tmp_path: Path) -> None:
    slide = SHARED / "data" / "slides" / "CMU-1-Small-Region.svs"
    lake = TestLake(Path(shutil.copytree(camelyon.folder / "L", tmp_path / "L")))
    before = lake.versions()
    lake.ok("ingest", str(slide))
    done = lake.ok("run", *TILING, "--json").json() + lake.ok("predict", "--json").json()
    assert {stage["stage"]: stage["units"] for stage in done} == {
        "patches": 1,
        "features": 1,
        "labels": 0,
        "predictions": 1,
    }
    for table in ("patches", "features", "predictions"):
        assert store.open_table(lake.root, table).version() == before[table] + 1
    picture = tmp_path / "cmu.png"
    lake.ok("heatmap", "CMU-1-Small-Region", "--out", str(picture))
    assert picture.stat().st_size > 100_000


def test_a_heatmap_is_drawn_of_a_tumor_slide(camelyon: Camelyon) -> None:
    histolake(camelyon.folder, "heatmap", "tumor_001", "--out", "tumor_001.png")
    assert (camelyon.folder / "tumor_001.png").stat().st_size > 100_000


def test_the_transcript_of_evaluation_prints_what_the_page_shows(camelyon: Camelyon) -> None:
    said = transcript.transcript(PAGE)
    printed = transcript.run([command for command, _ in said], camelyon.folder)
    assert len(printed) == len(said) > 5
    for (command, before), (_, now) in zip(said, printed, strict=True):
        assert transcript.difference(before, now) is None, command
