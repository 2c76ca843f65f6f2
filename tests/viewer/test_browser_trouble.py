"""What is wrong, or has changed, is a sentence in Chromium, too, and the app goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_support import alpha, open_viewer, overlay, served, until
from playwright.sync_api import Page, expect
from support import TestLake

pytestmark = pytest.mark.slow


@pytest.fixture
def shown_lake(full_lake: TestLake) -> TestLake:
    return full_lake


@pytest.fixture
def address(shown_lake: TestLake) -> Iterator[str]:
    """Of an app of the test's own, for it changes lake and slides."""
    with served(shown_lake.root) as address:
        yield address


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


def test_the_page_says_that_the_lake_has_changed_and_refreshes_when_asked(page: Page, shown_lake: TestLake) -> None:
    page.get_by_text("6 slides: 6 scored").wait_for()
    (shown_lake.root.parent / "late.tif").write_bytes(b"no slide")
    shown_lake("ingest", str(shown_lake.root.parent / "late.tif"))
    page.get_by_text("The lake has changed").wait_for()
    expect(page.get_by_text("6 slides: 6 scored")).to_be_visible()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_text("7 slides: 6 scored, 1 failed").wait_for()
    expect(page.get_by_text("The lake has changed")).to_have_count(0)
