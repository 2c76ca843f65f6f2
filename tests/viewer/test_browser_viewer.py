"""The viewer in Chromium: heatmap, keys, clicks, and views that are saved."""

from __future__ import annotations

import json
import re

import matplotlib
import numpy as np
import pytest
from browser_support import alpha, at_rest, color_at, open_viewer, overlay, pixels, settle, until
from PIL import Image
from playwright.sync_api import Page, expect
from support import TestLake

from lake import store
from lake.heatmap_frame import BANNER_PAPER
from viewer import slides
from viewer.reading import Lake


@pytest.mark.slow
def test_sliders_change_the_picture_without_python_and_without_new_tiles(page: Page, address: str) -> None:
    sent: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append("frame")))
    page.on("request", lambda request: sent.append(request.url))
    viewer = open_viewer(page, address, "slide=tumor_4")
    settle(page)
    page.wait_for_timeout(1000)
    before = alpha(viewer)
    picture = pixels(viewer.locator(".picture").first)
    sent.clear()

    opacity = viewer.get_by_label("Opacity")
    opacity.press("End")
    assert alpha(viewer) > 1.5 * before
    assert (abs(pixels(viewer.locator(".picture").first) - picture).max(axis=2) > 20).mean() > 0.05
    opacity.press("Home")
    viewer.get_by_label("Annotations").uncheck()
    assert alpha(viewer) == 0
    opacity.press("End")
    whole = alpha(viewer)
    viewer.get_by_label("Hidden below").press("End")
    assert 0 <= alpha(viewer) < 0.9 * whole
    viewer.get_by_label("Hidden below").press("Home")
    viewer.get_by_role("combobox").select_option("cividis")
    viewer.get_by_label("Smooth").check()
    page.keyboard.down("h")
    assert alpha(viewer) == 0
    page.keyboard.up("h")
    assert alpha(viewer) == pytest.approx(whole, rel=0.1)
    page.wait_for_timeout(500)
    assert sent == []


@pytest.mark.slow
def test_the_heatmap_lies_where_the_patches_are_and_is_hot_where_the_labels_say_tumor(
    page: Page, address: str, shown_lake: TestLake
) -> None:
    viewer = open_viewer(page, address, "slide=tumor_4")
    viewer.get_by_label("Annotations").uncheck()
    viewer.get_by_label("Opacity").press("End")
    scored = (
        shown_lake.read("predictions")
        .filter(slide_id="tumor_4")
        .join(shown_lake.read("labels"), on=["slide_id", "patch_set", "x", "y"])
    )
    threshold = shown_lake.read("models")["threshold"][0]
    viridis = matplotlib.colormaps["viridis"]
    patches = scored.select("x", "y", "probability", "label").rows()
    assert {label for *_, label in patches} == {0, 1}
    for x, y, probability, _ in patches:
        expected = [round(255 * part) for part in viridis(round(255 * probability))[:3]]
        shown = color_at(viewer, x + 32, y + 32)
        assert np.abs(np.subtract(shown[:3], expected)).max() <= 6, (x, y, probability)
    with page.expect_response(re.compile("/histolake/outcomes/")):
        viewer.get_by_label("Right and wrong").check()
    page.wait_for_timeout(500)
    for x, y, probability, label in patches:
        is_called = probability >= threshold
        expected = {(1, True): [0, 114, 178], (1, False): [204, 121, 167], (0, True): [230, 159, 0]}
        shown = color_at(viewer, x + 32, y + 32)
        assert shown[:3] == expected.get((label, is_called), [0, 0, 0]), (x, y, probability, label)
    assert color_at(viewer, 20, 20)[3] == 0


def place(page: Page) -> str:
    """The address that the browser shows; page.url is not told while one sleeps."""
    return str(page.evaluate("location.href"))


def slide_with_hotspots(lake: TestLake) -> str:
    """A slide with several of them."""
    slides.forget()
    now = Lake(str(lake.root), store.open_table(lake.root, "runs").version())
    for slide_id in slides.names(now)["slide_id"]:
        [model] = slides.models(now, slide_id)
        if slides.hotspots(now, slide_id, model["model_id"], model["patch_set"]).height > 1:
            return str(slide_id)
    pytest.fail("no slide of the fixture has two hotspots")


@pytest.mark.slow
def test_keys_step_through_hotspots_and_the_address_keeps_the_view(
    page: Page, address: str, shown_lake: TestLake
) -> None:
    viewer = open_viewer(page, address, f"slide={slide_with_hotspots(shown_lake)}")
    page.keyboard.press("n")
    first = viewer.locator(".hotspots li button").first
    expect(first).to_have_attribute("aria-pressed", "true")
    page.wait_for_url(re.compile(r"zoom="))
    at_first = at_rest(lambda: place(page))
    page.keyboard.press("n")
    expect(first).to_have_attribute("aria-pressed", "false")
    until(lambda: place(page) != at_first, "the address follows the view")
    at_rest(lambda: place(page))
    page.keyboard.press("p")
    expect(first).to_have_attribute("aria-pressed", "true")
    until(lambda: place(page) == at_first, "the address is that of the first again")
    assert at_rest(lambda: place(page)) == at_first

    picture = pixels(viewer.locator(".picture").first)
    page.goto(at_first)
    overlay(page.locator(".viewer")).wait_for()
    settle(page)
    page.locator(".viewer").locator(".caption").first.hover()
    page.wait_for_timeout(1500)
    again = pixels(page.locator(".viewer .picture").first)
    assert (abs(again - picture).max(axis=2) > 40).mean() < 0.1  # but for the mark of the hotspot


@pytest.mark.slow
def test_a_click_shows_the_patch_and_leaves_the_view_alone(page: Page, address: str) -> None:
    viewer = open_viewer(page, address, "slide=tumor_4")
    page.keyboard.press("n")
    page.wait_for_url(re.compile(r"zoom="))
    before, element = at_rest(lambda: place(page)), overlay(viewer).element_handle()
    viewer.locator(".picture").first.click()
    page.get_by_text("Your verdict").wait_for()
    page.get_by_text("Most alike across the lake").wait_for()
    assert place(page) == before
    assert element.evaluate("canvas => canvas.isConnected")


@pytest.mark.slow
def test_the_view_is_saved_with_model_versions_and_banner(page: Page, address: str, shown_lake: TestLake) -> None:
    viewer = open_viewer(page, address, "slide=tumor_4&slide2=normal_1")
    expect(viewer.locator(".pane:visible")).to_have_count(2)
    page.wait_for_timeout(1500)
    with page.expect_download() as download:
        viewer.get_by_role("button", name="Save view").click()
    assert download.value.suggested_filename == "tumor_4_and_normal_1.png"
    saved = np.asarray(Image.open(download.value.path()).convert("RGB")).astype(int)
    box = viewer.locator(".panes").bounding_box()
    assert box is not None
    assert abs(saved.shape[1] - box["width"]) < 12
    assert (saved[-20] == BANNER_PAPER).all(axis=1).mean() > 0.5  # the banner's line, but for its letters
    assert (saved[-36:] == 255).all(axis=2).any()
    with page.expect_download() as download:
        viewer.get_by_role("link", name="For QuPath").click()
    assert json.loads(download.value.path().read_text())["features"]
    left = shown_lake.read("audit").sort("sequence").filter(action="exported").select("slide_id", "object").rows()
    assert left == [("tumor_4", "view.png"), ("normal_1", "view.png"), ("tumor_4", "hotspots.geojson")]
