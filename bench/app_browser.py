"""Times what a person sees in Chromium: the worklist's table, and the viewer's sliders."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable

import app_lake
from app_figure import Figure, NotMeasuredError
from playwright.sync_api import Error, Page, sync_playwright

NO_CHROMIUM = "no Chromium on this machine"
SLIDER_MOVES = 21
START_S = 60
BROWSER_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
TABLE = '[data-testid="stDataFrame"] canvas'  # of the worklist
SLIDER, OVERLAY = 'input[data-control="{}"]', "canvas.overlay"  # of the viewer

IS_DRAWN = """(slider) => {
  const overlay = slider.getRootNode().querySelector("canvas.overlay");
  if (!overlay?.width) return false;
  const { data } = overlay.getContext("2d").getImageData(0, 0, overlay.width, overlay.height);
  return data.some((value) => value > 0);
}"""
"""Whether the heatmap is there."""

MOVE_SLIDER = """async (slider, value) => {
  const overlay = slider.getRootNode().querySelector("canvas.overlay");
  const look = () => {
    const { data } = overlay.getContext("2d").getImageData(0, 0, overlay.width, overlay.height);
    return new Uint32Array(data.buffer).reduce((sum, pixel) => (31 * sum + pixel) | 0, 0);
  };
  const frame = () => new Promise(requestAnimationFrame);
  const before = look();
  await frame();
  const start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  await frame();
  await frame();  // the one before is on the screen
  const took = performance.now() - start;
  return look() === before ? null : took;
}"""
"""Milliseconds from moving a slider until the frame with the changed picture is drawn; null when nothing changed."""


def in_browser(port: int) -> list[Figure]:
    """What a person waits for."""
    address = f"http://127.0.0.1:{port}"
    program = chromium()
    steps: list[tuple[str, float, Callable[[Page], float]]] = [
        ("worklist of 1,000 slides: from its address to the table, first visit after the start", 1, visit),
        ("the same, second visit", 1, visit),
        ("opacity slider to picture", 0.05, lambda page: move_slider(page, address, "opacity")),
        ("threshold slider to picture", 0.05, lambda page: move_slider(page, address, "threshold")),
    ]
    if program is None:
        return [Figure(what, target, None, NO_CHROMIUM) for what, target, _ in steps]
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=address)
        page.set_default_timeout(30_000)
        page.goto("about:blank")
        for what, target, measure in steps:
            try:
                found.append(Figure(what, target, measure(page)))
            except NotMeasuredError as why:
                found.append(Figure(what, target, None, str(why)))
            except Error as why:
                found.append(Figure(what, target, None, why.message.partition("\n")[0]))
        browser.close()
    return found


def first_visit(port: int, what: str) -> Figure:
    """How long a browser that was never there waits for a page's table."""
    program = chromium()
    if program is None:
        return Figure(what, None, None, NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=BROWSER_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, base_url=f"http://127.0.0.1:{port}")
        page.goto("about:blank")
        found = visit(page)
        browser.close()
    return Figure(what, None, found)


def chromium() -> str | None:
    """The browser of this machine, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def visit(page: Page) -> float:
    """Seconds from going to the worklist until its table is drawn."""
    start = time.perf_counter()
    page.goto("/")
    page.locator(TABLE).first.wait_for()
    return time.perf_counter() - start


def move_slider(page: Page, address: str, name: str) -> float:
    """Median seconds until the picture of the largest slide has changed, over moves of a slider of the viewer."""
    page.goto(f"{address}/viewer?slide={app_lake.LARGE}")
    slider = page.locator(SLIDER.format(name))
    slider.wait_for()
    deadline = time.monotonic() + START_S
    while not slider.evaluate(IS_DRAWN):
        if time.monotonic() > deadline:
            raise NotMeasuredError("no heatmap was drawn")
        page.wait_for_timeout(200)
    page.wait_for_load_state("networkidle")
    times: list[float] = []
    for number in range(SLIDER_MOVES):
        took = slider.evaluate(MOVE_SLIDER, 0.2 + 0.6 * (number % 2))
        if took is None:
            raise NotMeasuredError("the picture did not change")
        times.append(took / 1000)
    return statistics.median(times)
