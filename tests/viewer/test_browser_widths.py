"""The pages on a small and on a large screen: nothing runs out of the window, and nothing is cut off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from browser_support import open_viewer, settle
from playwright.sync_api import Page
from support import ROOT, TestLake

from lake import models

pytestmark = pytest.mark.slow

CUT = (ROOT / "tests/viewer/cut.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown_lake(compared_once: Path, found_slides: None, tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    """A lake with three models."""
    return TestLake(Path(shutil.copytree(compared_once, tmp_path_factory.mktemp("shown") / "lake")))


@pytest.mark.parametrize("width", [1280, 1920])
def test_nothing_is_wider_than_the_window_and_nothing_is_cut_off(
    page: Page, address: str, shown_lake: TestLake, width: int
) -> None:
    champion = models.champion(shown_lake.root)
    other = next(row["model_id"] for row in models.rows(shown_lake.root) if row["model_id"] != champion)
    page.set_viewport_size({"width": width, "height": 1000})
    for path in ("", "models", f"models?model={champion}&compare={other}", "sql", "lineage"):
        page.goto(f"{address}/{path}")
        page.get_by_role("heading", level=1).wait_for()
        settle(page)
        assert page.evaluate(CUT) == [], path
    for query in ("slide=tumor_4", f"slide=tumor_4&model2={other}"):
        open_viewer(page, address, query)
        settle(page)
        assert page.evaluate(CUT) == [], query
    page.evaluate("document.querySelector('.stMain').append('W'.repeat(400))")
    assert page.evaluate(CUT), "the test does not see a long word"
