"""Two slides, or two models of one slide, side by side in Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from browser_support import alpha, at_rest, color_at, open_viewer, until
from playwright.sync_api import Locator, Page, expect
from support import TestLake

from lake import models

pytestmark = pytest.mark.slow

Box = list[int]  # left, top, right, bottom, px of a pane

TISSUE = """canvas => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    let [left, top, right, bottom] = [width, height, 0, 0];
    for (let y = 0; y < height; y += 1) {
        for (let x = 0; x < width; x += 1) {
            const [red, green, blue, alpha] = data.subarray(4 * (y * width + x), 4 * (y * width + x) + 4);
            if (alpha < 255 || Math.max(red, green, blue) - Math.min(red, green, blue) < 40) continue;
            [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
        }
    }
    return [left, top, right, bottom];
}"""


@pytest.fixture(scope="module")
def shown_lake(compared_once: Path, found_slides: None, tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    """A lake with three models."""
    return TestLake(Path(shutil.copytree(compared_once, tmp_path_factory.mktemp("shown") / "lake")))


def tissue(viewer: Locator, pane: int) -> Box:
    """Where a pane shows the rectangle of tissue that the fixture's slides have, all at the same place."""
    canvas = viewer.locator(".pane").nth(pane).locator(".openseadragon-canvas canvas:not(.overlay)").first
    return list(canvas.evaluate(TISSUE))


def resting(viewer: Locator) -> tuple[Box, Box]:
    """Where both panes show tissue once nothing moves."""
    return at_rest(lambda: (tissue(viewer, 0), tissue(viewer, 1)))


def is_same(one: Box, other: Box) -> bool:
    return bool(np.abs(np.subtract(one, other)).max() <= 2)


def open_pair(page: Page, address: str, query: str) -> Locator:
    viewer = open_viewer(page, address, query)
    expect(viewer.locator(".pane:visible")).to_have_count(2)
    until(lambda: alpha(viewer, 0) > 0 and alpha(viewer, 1) > 0, "both panes have an overlay")
    return viewer


def others(lake: TestLake) -> list[str]:
    """The models but the champion."""
    champion = models.champion(lake.root)
    return [row["model_id"] for row in models.rows(lake.root) if row["model_id"] != champion]


@pytest.mark.parametrize("beside", ["another slide", "another model"])
def test_what_moves_one_pane_moves_the_other(page: Page, address: str, shown_lake: TestLake, beside: str) -> None:
    query = "slide2=normal_1" if beside == "another slide" else f"model2={others(shown_lake)[0]}"
    viewer = open_pair(page, address, f"slide=tumor_4&{query}")
    first, second = resting(viewer)
    assert is_same(first, second)
    width = first[2] - first[0]
    assert width > 100

    boxes = [viewer.locator(".picture").nth(pane).bounding_box() for pane in (0, 1)]
    left, right = ((box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes if box)
    page.mouse.move(*right)  # to drag the second pane
    page.mouse.down()
    page.mouse.move(right[0] + 50, right[1] + 30, steps=5)
    page.mouse.up()
    until(lambda: tissue(viewer, 0)[0] > first[0] + 20, "the first pane goes where the second is dragged")
    dragged, dragged_too = resting(viewer)
    assert is_same(dragged, dragged_too)
    assert dragged[1] > first[1] + 10
    assert dragged[2] - dragged[0] == pytest.approx(width, abs=2)

    page.mouse.move(*left)
    page.mouse.wheel(0, 100)  # to zoom the first pane out
    until(lambda: tissue(viewer, 1)[2] - tissue(viewer, 1)[0] < width - 10, "the second pane zooms with the first")
    zoomed, zoomed_too = resting(viewer)
    assert is_same(zoomed, zoomed_too)
    bars = viewer.locator(".bar").all_inner_texts()
    assert bars[0] == bars[1]

    viewer.get_by_label("Move both together").uncheck()
    page.mouse.move(*left)
    page.mouse.wheel(0, -100)
    until(lambda: tissue(viewer, 0)[2] - tissue(viewer, 0)[0] > zoomed[2] - zoomed[0] + 10, "the first pane zooms in")
    _, alone = resting(viewer)
    assert alone == zoomed_too


def test_each_pane_shows_the_probabilities_of_its_own_model(page: Page, address: str, shown_lake: TestLake) -> None:
    shown = (models.champion(shown_lake.root), others(shown_lake)[0])
    viewer = open_pair(page, address, f"slide=tumor_4&model={shown[0]}&model2={shown[1]}")
    viewer.get_by_label("Annotations").uncheck()
    viewer.get_by_label("Opacity").press("End")
    until(lambda: alpha(viewer, 0) > 0 and alpha(viewer, 1) > 0, "both panes have a heatmap")
    captions = viewer.locator(".caption").all_inner_texts()
    assert captions == [f"tumor_4 · {model_id}" for model_id in shown]
    viridis = matplotlib.colormaps["viridis"]
    expected = []
    for pane, model_id in enumerate(shown):
        scored = shown_lake.read("predictions").filter(slide_id="tumor_4", model_id=model_id).sort("y", "x")
        colors = [viridis(round(255 * probability), bytes=True)[:3] for probability in scored["probability"]]
        expected.append(np.array(colors, int))
        places = scored.select("x", "y").rows()
        drawn = np.array([color_at(viewer, x + 32, y + 32, pane)[:3] for x, y in places])
        assert np.abs(drawn - expected[pane]).max() <= 6, pane
    assert np.abs(expected[0] - expected[1]).max() > 12  # or the test would not tell one model from the other
