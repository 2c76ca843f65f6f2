"""Whether everybody can read and use the pages, as far as a program can tell: contrast, and axe-core's rules."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_support import open_viewer, settle
from playwright.sync_api import Page, expect
from support import ROOT, TestLake

from lake import models

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCHEMES = ["light", "dark"]
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}

# What axe-core says of Streamlit's own widgets, by rule and part of the selector, and why it stays.
KNOWN: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def shown_lake(compared_once: Path, found_slides: None, tmp_path_factory: pytest.TempPathFactory) -> TestLake:
    """A lake with three models."""
    return TestLake(Path(shutil.copytree(compared_once, tmp_path_factory.mktemp("shown") / "lake")))


@pytest.mark.parametrize("scheme", SCHEMES)
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


def violations(page: Page) -> list[str]:
    """What breaks a rule of WCAG 2, levels A and AA, and is not known: rule, selector, element."""
    answer = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response
    found = []
    for rule in answer["violations"]:
        for node in rule["nodes"]:
            selector = " ".join(" >>> ".join(part) if isinstance(part, list) else part for part in node["target"])
            if not any(rule["id"] == known and part in selector + node["html"] for known, part in KNOWN):
                why = "; ".join(check["message"] for check in [*node["any"], *node["all"], *node["none"]])
                found.append(f"{rule['id']}: {selector}: {node['html'][:200]}: {why}")
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_on_any_page(
    page: Page, address: str, shown_lake: TestLake, scheme: Literal["light", "dark"]
) -> None:
    champion = models.champion(shown_lake.root)
    other = next(row["model_id"] for row in models.rows(shown_lake.root) if row["model_id"] != champion)
    page.emulate_media(color_scheme=scheme)
    found: dict[str, list[str]] = {}
    for path in ("", "models", f"models?model={champion}&compare={other}", "lineage", "sql"):
        page.goto(f"{address}/{path}")
        page.get_by_role("heading", level=1).wait_for()
        settle(page)
        found[path] = violations(page)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("button", name="Rows as CSV")).to_be_visible()
    settle(page)
    found["sql with an answer"] = violations(page)
    for query in ("slide=tumor_4", "slide=tumor_4&slide2=normal_1", f"slide=tumor_4&model2={other}"):
        viewer = open_viewer(page, address, query)
        settle(page)
        found[query] = violations(page)
    viewer.locator(".picture").first.click()
    page.get_by_text("Most alike across the lake").wait_for()
    settle(page)
    found["a patch"] = violations(page)
    lines = [f"{where or 'worklist'}: {line}" for where, what in found.items() for line in what]
    assert not lines, "\n".join(lines)
    viewer.get_by_label("Opacity").evaluate("element => element.labels[0].remove()")
    assert violations(page), "the test does not see a slider without a name"
