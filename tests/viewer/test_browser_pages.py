"""The pages but the viewer in Chromium: what only a browser shows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser_support import click_row, overlay, pixels, settle, until_drawn
from playwright.sync_api import Page, expect

from lake.heatmap_frame import BANNER

pytestmark = pytest.mark.slow

SLIDE_PX, TABS_PX = 120, range(170, 300, 10)  # across the worklist: the slide's button; where the link to a tab may be


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


def test_the_models_page_draws_its_charts(page: Page) -> None:
    page.get_by_text("Models", exact=True).click()
    charts = page.get_by_test_id("stVegaLiteChart")
    expect(charts).to_have_count(6)
    settle(page)
    for chart in charts.all():
        assert len(np.unique(pixels(chart).reshape(-1, 3), axis=0)) > 20
