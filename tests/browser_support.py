"""What the tests in Chromium share: the app's server, and what a person does and sees on its pages."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect
from support import ROOT, free_port, until

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
expect.set_options(timeout=60_000)

T = TypeVar("T")


@contextlib.contextmanager
def served(root: Path, *options: str) -> Iterator[str]:
    """`streamlit run app.py` on a lake, with more options, on a free port of this machine; its address."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
    command += ["--server.fileWatcherType", "none", "--browser.gatherUsageStats", "false", *options]
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "HISTOLAKE_LAKE": str(root)})
    try:
        until(lambda: _is_up(port, server), "streamlit answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        server.kill()
        server.wait(30)


def at_rest(read: Callable[[], T], times: int = 6) -> T:
    """What `read` gives once it has given the same so many times, 0.1 s apart: when nothing moves any more."""
    given: list[T] = []

    def is_at_rest() -> bool:
        time.sleep(0.1)
        given.append(read())
        return len(given) >= times and all(each == given[-1] for each in given[-times:])

    until(is_at_rest, "it comes to rest")
    return given[-1]


def _is_up(port: int, server: subprocess.Popen[bytes]) -> bool:
    assert server.poll() is None, f"streamlit ended with {server.returncode}"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


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
    until(lambda: alpha(viewer) > 0, "an overlay is drawn")


def overlay(viewer: Locator, pane: int = 0) -> Locator:
    """The canvas that a pane's heatmap and outlines are drawn on."""
    return viewer.locator(".overlay").nth(pane)


def alpha(viewer: Locator, pane: int = 0) -> float:
    """Mean opacity of the overlay, 0 to 1."""
    script = """canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        let sum = 0;
        for (let at = 3; at < data.length; at += 4) sum += data[at];
        return sum / (data.length / 4) / 255;
    }"""
    return float(overlay(viewer, pane).evaluate(script))


def color_at(viewer: Locator, x: float, y: float, pane: int = 0) -> list[int]:
    """RGBA of the overlay over a place of the fixture's slide, level-0 px, while the whole slide is on view."""
    script = """(canvas, [x, y]) => {
        const scale = Math.min(canvas.width / 1024, canvas.height / 768);
        const left = (canvas.width - 1024 * scale) / 2, top = (canvas.height - 768 * scale) / 2;
        const at = [Math.round(left + x * scale), Math.round(top + y * scale)];
        return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
    }"""
    return list(overlay(viewer, pane).evaluate(script, [x, y]))
