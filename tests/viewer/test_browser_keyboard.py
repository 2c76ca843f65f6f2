"""The app without a mouse: what Tab comes to, what it is called, and what keys do."""

from __future__ import annotations

import re

import pytest
from browser_support import alpha, at_rest, open_viewer, overlay, settle, until, until_drawn
from keyboard import Keyboard
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow

NAMES = """viewer => [...viewer.querySelectorAll("button, input, select, a[href]")]
    .filter((each) => each.checkVisibility() && !each.disabled)
    .map((each) => (each.matches("select") ? each.labels[0].firstChild : each.labels?.[0] ?? each))
    .map((named) => (named.ariaLabel ?? named.textContent).trim())"""


def in_address(page: Page, part: str) -> float:
    """A number of the page's address."""
    found = re.search(part, page.evaluate("location.href"))  # page.url is not told while one sleeps
    return float(found[1]) if found else 0.0


def test_tab_comes_to_every_control_of_the_viewer_each_with_a_name_and_a_focus_that_is_seen(
    page: Page, address: str
) -> None:
    page.set_viewport_size({"width": 1280, "height": 1600})
    viewer = open_viewer(page, address, "slide=tumor_4")
    settle(page)
    controls = viewer.evaluate(NAMES)
    assert len(controls) > 15
    stops = Keyboard(page).stops()
    nameless = [stop for stop, _ in stops if not stop.name and stop.role != "main"]  # which Streamlit lets keys scroll
    assert not nameless, "\n".join(map(str, nameless))
    unseen = [stop for stop, is_seen in stops if not is_seen and stop.role != "main"]
    assert not unseen, "\n".join(map(str, unseen))
    names = [stop.name for stop, _ in stops]
    for control in controls:
        assert any(control and control in name for name in names), f"{control}: Tab comes to {names}"
    assert any(re.match(r"tumor_4 · .* Arrow keys move", name) for name in names)


def test_a_slide_is_found_looked_at_and_asked_about_without_a_mouse(page: Page, address: str) -> None:
    keys = Keyboard(page)
    press = page.keyboard.press
    page.get_by_test_id("stDataFrame").wait_for()
    keys.to("Viewer")
    press("Enter")
    page.wait_for_url(f"{address}/viewer")
    settle(page)
    keys.to("Slide")
    page.keyboard.type("tumor_4")
    press("Enter")
    page.wait_for_url(re.compile("slide=tumor_4"))
    viewer = page.locator(".viewer")
    overlay(viewer).wait_for()
    until_drawn(page, viewer)
    settle(page)

    before = at_rest(lambda: alpha(viewer))
    keys.to("Opacity")
    press("ArrowRight")
    press("ArrowRight")
    assert alpha(viewer) > before
    keys.to("Colors")
    press("ArrowDown")
    assert viewer.get_by_role("combobox").input_value() == "cividis"
    keys.to("Smooth")
    press("Space")
    expect(viewer.get_by_label("Smooth")).to_be_checked()
    keys.to("Next")
    press("Enter")
    hotspot = viewer.locator(".hotspots li button").first
    expect(hotspot).to_have_attribute("aria-pressed", "true")
    press("p")
    press("n")
    expect(hotspot).to_have_attribute("aria-pressed", "true")

    shown = at_rest(lambda: alpha(viewer))
    page.keyboard.down("h")
    assert alpha(viewer) < 0.1 * shown  # the mark of the hotspot stays
    page.keyboard.up("h")
    assert alpha(viewer) == shown

    settle(page)
    viewer.locator(".openseadragon-canvas").first.focus()
    focused = keys.focused()
    assert "Enter shows the patch in the middle" in focused.name
    for key, part in (("ArrowRight", r"[?&]x=(\d+)"), ("ArrowDown", r"[?&]y=(\d+)"), ("+", r"zoom=([\d.]+)")):
        before = in_address(page, part)
        page.keyboard.press(key, delay=200)  # it moves for as long as the key is held
        until(lambda part=part, before=before: in_address(page, part) > before, f"{key} moves the picture")
    expect(viewer.locator(".pointer")).to_contain_text("probability")
    press("Enter")
    expect(page.get_by_text("Your verdict")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^Patch at "))).to_be_visible()
