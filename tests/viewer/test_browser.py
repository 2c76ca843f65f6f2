"""The app in Chromium: what only a browser shows."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright
from support import ROOT, TestLake

from lake.heatmap_frame import BANNER

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROW_PX = 35  # of Streamlit's table, which is drawn on a canvas
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
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert errors == []


def pixels(picture: Locator) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("RGB")).astype(int)


def settle(page: Page) -> None:
    page.wait_for_timeout(500)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def click_row(page: Page, number: int) -> None:
    box = page.get_by_test_id("stDataFrame").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 40, box["y"] + (number + 0.5) * ROW_PX)


@pytest.mark.slow
def test_a_slide_chosen_in_the_worklist_shows_its_heatmap(page: Page, address: str) -> None:
    page.get_by_test_id("stDataFrame").wait_for()
    expect(page.get_by_text(BANNER)).to_be_visible()
    settle(page)
    click_row(page, 0)  # the heading: sorts by slide, and opens none
    settle(page)
    assert page.url.rstrip("/") == address
    click_row(page, 1)
    page.wait_for_url(f"{address}/heatmap?slide=normal_1")

    picture = page.get_by_test_id("stImage").first.locator("img")
    picture.wait_for()
    settle(page)
    expect(page.get_by_text(BANNER)).to_be_visible()
    heatmap = pixels(picture)
    is_colored = heatmap.max(axis=2) - heatmap.min(axis=2) > 40
    assert heatmap.shape[1] > 700
    assert 0.1 < is_colored.mean() < 0.9

    page.get_by_text("Slide alone", exact=True).click()
    expect(page.get_by_alt_text("Slide alone of slide normal_1")).to_be_visible()
    settle(page)
    alone = pixels(picture)
    assert alone.shape == heatmap.shape
    assert (abs(alone - heatmap).max(axis=2) > 20).mean() > 0.05


@pytest.mark.slow
def test_the_models_page_draws_its_charts(page: Page) -> None:
    page.get_by_text("Models", exact=True).click()
    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count(6)
    settle(page)
    for chart in charts.all():
        assert len(np.unique(pixels(chart).reshape(-1, 3), axis=0)) > 20
