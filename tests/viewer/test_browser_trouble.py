"""What is wrong is a sentence in Chromium, too, and the app goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser_support import alpha, open_viewer, overlay, until
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow


def test_an_address_that_names_no_slide_or_no_model_says_so_and_the_app_goes_on(page: Page, address: str) -> None:
    page.goto(f"{address}/viewer?slide=tumor_99")
    expect(page.get_by_test_id("stAlert").first).to_contain_text("The lake has no slide 'tumor_99'")
    page.get_by_role("combobox", name="Slide", exact=True).click()
    page.get_by_role("option", name="tumor_4").click()
    overlay(page.locator(".viewer")).wait_for()

    viewer = open_viewer(page, address, "slide=tumor_4&model=nobody")
    expect(page.get_by_test_id("stAlert").first).to_contain_text("The lake has no model 'nobody'")
    assert alpha(viewer) > 0
    page.get_by_test_id("stTopNavLink").filter(has_text="Worklist").click()
    expect(page.get_by_text("6 slides: 6 scored")).to_be_visible()


def test_a_slide_file_that_was_moved_is_a_sentence_and_other_slides_are_shown(
    page: Page, address: str, slides: Path
) -> None:
    (slides / "tumor_4.tif").rename(slides / "elsewhere.tif")
    page.goto(f"{address}/viewer?slide=tumor_4")
    expect(page.get_by_test_id("stAlert").first).to_contain_text("was the slide moved?")
    expect(page.locator(".viewer")).to_have_count(0)
    viewer = open_viewer(page, address, "slide=tumor_3")
    assert alpha(viewer) > 0


def test_a_slide_file_that_is_moved_while_one_looks_is_a_sentence(
    page: Page, address: str, slides: Path, console_errors: list[str]
) -> None:
    viewer = open_viewer(page, address, "slide=tumor_4&x=400&y=300&zoom=6")
    expect(viewer.get_by_role("alert")).to_have_count(0)
    page.wait_for_load_state("networkidle")  # what is on view has come; the rest has not been asked for
    (slides / "tumor_4.tif").rename(slides / "elsewhere.tif")
    viewer.get_by_role("button", name="Whole slide").click()
    expect(viewer.get_by_role("alert")).to_contain_text("was the slide moved?")
    until(lambda: any("404" in error for error in console_errors), "the browser notes the tile that is missing")
    viewer = open_viewer(page, address, "slide=tumor_3")
    expect(viewer.get_by_role("alert")).to_have_count(0)
    assert {error for error in console_errors if "404" not in error} == set()
    console_errors.clear()
