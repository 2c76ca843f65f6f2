"""The heatmap in Chromium beside the truth: slides of real patches, a model trained on others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
import pytest
from browser_support import open_viewer, overlay, pixels, until_drawn
from playwright.sync_api import Page
from support import TestLake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SLIDE, CELL_PX, CELLS = "tumor_005", 96, 20  # the slide that is looked at; edge of a cell, level-0 px; cells along it
TILING = ("--patch-px", "96", "--mpp", "0.972", "--min-tissue", "0.05", "--encoder", "efficientnet_lite0")
SPLITS = {"tumor_004": "validation", SLIDE: "test", "normal_002": "validation"}  # the others are for training
LEVELS = 254  # steps of a probability on its way to the browser


@dataclass(frozen=True)
class Mosaic:
    """A lake of slides whose every cell is known. truth: x, y, label of each tissue cell of SLIDE."""

    lake: TestLake
    truth: pl.DataFrame


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory, mosaic_tool: Callable[..., Path]) -> Mosaic:
    folder = mosaic_tool(tmp_path_factory.mktemp("mosaic"), tumor=5, normal=2, grid=CELLS)
    names = sorted(path.stem for path in folder.glob("*.tif"))
    rows = ["slide_id,split", *(f"{name},{SPLITS.get(name, 'train')}" for name in names)]
    (folder / "manifest.csv").write_text("\n".join(rows))
    lake = TestLake(folder / "lake", TILING)
    sources = (str(folder / "*.tif"), "--annotations", str(folder / "*.xml"))
    lake.ok("ingest", *sources, "--manifest", str(folder / "manifest.csv"))
    lake.ok("run", *lake.tiling)
    lake.ok("train")
    lake.ok("predict")
    truth = pl.read_csv(folder / "truth.csv").filter(pl.col("slide") == SLIDE).drop("slide")
    assert set(truth["label"]) == {0, 1}
    return Mosaic(lake, truth)


@pytest.fixture(scope="module")
def shown_lake(mosaic: Mosaic) -> TestLake:
    return mosaic.lake


def picture_of_the_heatmap(page: Page, address: str) -> np.ndarray:
    """What a person sees of the whole slide under the heatmap alone, RGB; the picture's corner is the canvas's."""
    viewer = open_viewer(page, address, f"slide={SLIDE}")
    viewer.get_by_label("Annotations").uncheck()
    viewer.get_by_label("Opacity").press("End")
    until_drawn(page, viewer)
    viewer.locator(".navigator").first.evaluate("element => (element.style.visibility = 'hidden')")
    viewer.locator(".bar").first.evaluate("element => (element.style.visibility = 'hidden')")
    return pixels(overlay(viewer))


def colors_at(picture: np.ndarray, x: pl.Series, y: pl.Series) -> np.ndarray:
    """The picture's colors, shape (n, 3), at places of the slide, level-0 px, while all of it is on view."""
    height, width, _ = picture.shape
    edge = CELL_PX * CELLS
    scale = min(width, height) / edge
    assert scale * CELL_PX > 20  # a cell is large enough to be told from its neighbours
    across = (width - edge * scale) / 2 + x.to_numpy() * scale
    down = (height - edge * scale) / 2 + y.to_numpy() * scale
    return picture[down.astype(int), across.astype(int)]


def test_every_cell_has_the_color_of_its_probability_and_no_other_place_has_one(
    page: Page, address: str, mosaic: Mosaic
) -> None:
    picture = picture_of_the_heatmap(page, address)
    patches = mosaic.lake.read("predictions").filter(slide_id=SLIDE)
    assert patches.join(mosaic.truth, on=["x", "y"], how="semi").height == patches.height >= 0.99 * mosaic.truth.height
    viridis = matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3].astype(int)
    bytes_sent = np.rint(patches["probability"].to_numpy() * LEVELS)
    expected = viridis[np.rint(bytes_sent / LEVELS * 255).astype(int)]
    for across, down in ((48, 48), (9, 9), (87, 9), (9, 87), (87, 87)):  # its middle, and near each of its corners
        shown = colors_at(picture, patches["x"] + across, patches["y"] + down)
        assert np.abs(shown - expected).max() <= 4, (across, down)  # two bytes of a probability at most
    cells = pl.DataFrame({"x": range(0, CELL_PX * CELLS, CELL_PX)}).join(
        pl.DataFrame({"y": range(0, CELL_PX * CELLS, CELL_PX)}), how="cross"
    )
    glass = cells.join(patches, on=["x", "y"], how="anti").join(mosaic.truth, on=["x", "y"], how="anti")
    assert glass.height > 50
    assert colors_at(picture, glass["x"] + 48, glass["y"] + 48).min() > 230


def test_the_picture_is_hot_where_the_truth_says_tumor_and_cold_where_it_says_normal(
    page: Page, address: str, mosaic: Mosaic
) -> None:
    picture = picture_of_the_heatmap(page, address)
    viridis = matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3].astype(int)

    def heat(cells: pl.DataFrame) -> np.ndarray:
        """Probabilities, 0 to 1, as the colors tell them."""
        shown = colors_at(picture, cells["x"] + CELL_PX // 2, cells["y"] + CELL_PX // 2)
        return np.abs(shown[:, None] - viridis).sum(axis=2).argmin(axis=1) / 255

    threshold = mosaic.lake.read("models")["threshold"][0]
    tumor, normal = (heat(mosaic.truth.filter(label=label)) for label in (1, 0))
    assert min(len(tumor), len(normal)) > 20
    assert tumor.mean() > normal.mean() + 0.3
    assert (normal >= threshold).mean() < 0.3  # shares of cells: no classifier is without error
    assert (tumor >= threshold).mean() > (normal >= threshold).mean() + 0.4
