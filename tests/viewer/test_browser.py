"""The app in Chromium: what only a browser shows."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Literal

import matplotlib
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect, sync_playwright
from support import ROOT, TestLake

from lake import store
from lake.heatmap_frame import BANNER, BANNER_PAPER
from viewer import slides
from viewer.reading import Lake

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HEADING_PX, ROW_PX = 36, 56  # of the worklist's table, which is drawn on a canvas
SLIDE_PX, TABS_PX = 120, range(170, 300, 10)  # across it: the slide's button; where the link to a tab may be
START_S = 60
expect.set_options(timeout=60_000)


@pytest.fixture
def chromium() -> str:
    """The browser's program; without one the test fails, for a skipped test protects nobody."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("no Chromium on this machine: install it with `apt-get install -y chromium`")
    return found


@pytest.fixture
def address(full_lake: TestLake) -> Iterator[str]:
    """`streamlit run app.py` on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
    command += ["--server.fileWatcherType", "none", "--browser.gatherUsageStats", "false"]
    environment = {**os.environ, "HISTOLAKE_LAKE": str(full_lake.root)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, f"streamlit ended with {server.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"streamlit did not answer within {START_S} s")


@pytest.fixture
def page(chromium: str, address: str) -> Iterator[Page]:
    """The app in a browser whose console must stay free of errors."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if is_ours(message) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert errors == []


def is_ours(message: ConsoleMessage) -> bool:
    """Whether it is an error; that Streamlit looks for its server below a page's address, too, is none."""
    return message.type == "error" and "/_stcore/" not in message.location["url"]


def pixels(picture: Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB")).astype(int)


def settle(page: Page) -> None:
    page.wait_for_timeout(500)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def click_row(page: Page, number: int, across: int) -> None:
    """Click into the table's row, from 1: so many pixels from its left edge."""
    box = page.get_by_test_id("stDataFrame").bounding_box()
    assert box is not None
    x, y = box["x"] + across, box["y"] + HEADING_PX + (number - 0.5) * ROW_PX
    page.mouse.move(x, y)
    page.wait_for_timeout(500)  # until the table knows what is under the pointer
    page.mouse.click(x, y)


def open_viewer(page: Page, address: str, query: str) -> Locator:
    """The viewer's element, its slide and heatmap drawn."""
    page.goto(f"{address}/viewer?{query}")
    viewer = page.locator(".viewer")
    viewer.locator(".overlay").first.wait_for()
    page.wait_for_function("element => element.width > 300", arg=overlay(viewer).element_handle())
    until_drawn(page, viewer)
    return viewer


def until_drawn(page: Page, viewer: Locator) -> None:
    """Wait until the overlay shows something."""
    deadline = time.monotonic() + START_S
    while alpha(viewer) == 0:
        assert time.monotonic() < deadline, "no overlay was drawn"
        page.wait_for_timeout(100)


def overlay(viewer: Locator) -> Locator:
    """The canvas that heatmap and outlines are drawn on."""
    return viewer.locator(".overlay").first


def alpha(viewer: Locator) -> float:
    """Mean opacity of the overlay, 0 to 1."""
    script = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let sum = 0;
        for (let at = 3; at < data.length; at += 4) sum += data[at];
        return sum / (data.length / 4) / 255;
    }"""
    return float(overlay(viewer).evaluate(script))


def color_at(viewer: Locator, x: float, y: float) -> list[int]:
    """RGBA of the overlay over a place of the fixture's slide, level-0 px, while the whole slide is on view."""
    script = """(canvas, [x, y]) => {
        const scale = Math.min(canvas.width / 1024, canvas.height / 768);
        const left = (canvas.width - 1024 * scale) / 2, top = (canvas.height - 768 * scale) / 2;
        const at = [Math.round(left + x * scale), Math.round(top + y * scale)];
        return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
    }"""
    return list(overlay(viewer).evaluate(script, [x, y]))


@pytest.mark.slow
def test_no_answer_waits_for_the_browsers_acknowledgement(address: str) -> None:
    times = []
    with contextlib.closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)) as connection:
        for _ in range(20):
            start = time.perf_counter()
            connection.request("GET", "/histolake/thumbnails/tumor_4.jpeg")
            assert connection.getresponse().read().startswith(b"\xff\xd8")
            times.append(time.perf_counter() - start)
    assert min(times[1:]) < 0.03  # 40 ms each, where Nagle's algorithm is on


@pytest.mark.slow
def test_a_slide_chosen_in_the_worklist_is_shown_with_its_heatmap(page: Page, address: str) -> None:
    page.get_by_test_id("stDataFrame").wait_for()
    expect(page.get_by_text(BANNER)).to_be_visible()
    settle(page)
    click_row(page, 1, SLIDE_PX)
    page.wait_for_url(re.compile(r"/viewer\?slide=tumor_4"))
    viewer = page.locator(".viewer")
    overlay(viewer).wait_for()
    expect(page.get_by_text(BANNER)).to_be_visible()
    until_drawn(page, viewer)
    picture = pixels(viewer.locator(".picture").first)
    assert 0.05 < (picture.max(axis=2) - picture.min(axis=2) > 30).mean() < 0.9


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
    page: Page, address: str, full_lake: TestLake
) -> None:
    viewer = open_viewer(page, address, "slide=tumor_4")
    viewer.get_by_label("Annotations").uncheck()
    viewer.get_by_label("Opacity").press("End")
    scored = (
        full_lake.read("predictions")
        .filter(slide_id="tumor_4")
        .join(full_lake.read("labels"), on=["slide_id", "patch_set", "x", "y"])
    )
    threshold = full_lake.read("models")["threshold"][0]
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
    page: Page, address: str, full_lake: TestLake
) -> None:
    viewer = open_viewer(page, address, f"slide={slide_with_hotspots(full_lake)}")
    page.keyboard.press("n")
    first = viewer.locator(".hotspots li button").first
    expect(first).to_have_attribute("aria-pressed", "true")
    page.wait_for_url(re.compile(r"zoom="))
    page.wait_for_timeout(1000)
    at_first = page.url
    page.keyboard.press("n")
    expect(first).to_have_attribute("aria-pressed", "false")
    page.wait_for_timeout(1000)
    assert page.url != at_first
    page.keyboard.press("p")
    expect(first).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(1000)
    assert page.url == at_first

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
    page.wait_for_timeout(1000)
    before, element = page.url, overlay(viewer).element_handle()
    viewer.locator(".picture").first.click()
    page.get_by_text("Your verdict").wait_for()
    page.get_by_text("Most alike across the lake").wait_for()
    assert page.url == before
    assert element.evaluate("canvas => canvas.isConnected")


@pytest.mark.slow
def test_the_view_is_saved_with_model_versions_and_banner(page: Page, address: str, full_lake: TestLake) -> None:
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


@pytest.mark.slow
def test_two_slides_move_together(page: Page, address: str) -> None:
    viewer = open_viewer(page, address, "slide=tumor_4&slide2=normal_1")
    page.wait_for_timeout(1500)
    names = viewer.locator(".bar").all_inner_texts()
    viewer.get_by_role("button", name="10x", exact=True).click()
    page.wait_for_timeout(1500)
    after = viewer.locator(".bar").all_inner_texts()
    assert after[0] == after[1] != names[0]


@pytest.mark.slow
def test_the_models_page_draws_its_charts(page: Page) -> None:
    page.get_by_text("Models", exact=True).click()
    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count(6)
    settle(page)
    for chart in charts.all():
        assert len(np.unique(pixels(chart).reshape(-1, 3), axis=0)) > 20


@pytest.mark.slow
def test_a_slide_of_the_worklist_opens_in_a_tab_of_its_own(page: Page, address: str) -> None:
    page.get_by_test_id("stDataFrame").wait_for()
    settle(page)
    for across in TABS_PX:
        click_row(page, 1, across)
        page.wait_for_timeout(500)
        if len(page.context.pages) > 1:
            break
    assert page.context.pages[1].url.startswith(f"{address}/viewer?slide=tumor_4")
    assert page.url.rstrip("/") == address


@pytest.mark.slow
def test_the_page_says_that_the_lake_has_changed_and_refreshes_when_asked(page: Page, full_lake: TestLake) -> None:
    page.get_by_text("6 slides: 6 scored").wait_for()
    (full_lake.root.parent / "late.tif").write_bytes(b"no slide")
    full_lake("ingest", str(full_lake.root.parent / "late.tif"))
    page.get_by_text("The lake has changed").wait_for()
    expect(page.get_by_text("6 slides: 6 scored")).to_be_visible()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_text("7 slides: 6 scored, 1 failed").wait_for()
    expect(page.get_by_text("The lake has changed")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_every_page_can_be_read(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.reload()
    script = (ROOT / "tests/viewer/contrast.js").read_text(encoding="utf-8")
    page.get_by_test_id("stTopNavLink").first.wait_for()
    names = page.get_by_test_id("stTopNavLink").all_inner_texts()
    assert len(names) == 5
    for name in names:
        page.get_by_test_id("stTopNavLink").filter(has_text=name).click()
        page.wait_for_timeout(1500)
        settle(page)
        assert page.evaluate(script) == [], name
    faint = {"light": "#888", "dark": "#555"}[scheme]
    page.evaluate("color => document.querySelectorAll('h1').forEach(each => (each.style.color = color))", faint)
    assert page.evaluate(script), "the test does not see a faint heading"
