"""The models page in Chromium: two models compared, and another champion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser_support import pixels, served, settle, until
from playwright.sync_api import Page, expect
from support import TestLake

from lake import models

pytestmark = pytest.mark.slow


@pytest.fixture
def shown_lake(compared: TestLake, slides: Path) -> TestLake:
    """A lake with three models; `slides` puts the files of its slides where they were."""
    return compared


@pytest.fixture
def address(shown_lake: TestLake) -> Iterator[str]:
    """Of an app of the test's own, for it changes the lake."""
    with served(shown_lake.root) as address:
        yield address


def by_slide(lake: TestLake) -> tuple[str, str]:
    """The champion, and the other model that may be it."""
    champion = models.champion(lake.root)
    [other] = [
        row["model_id"]
        for row in models.rows(lake.root)
        if row["protocol"] == "by_slide" and row["model_id"] != champion
    ]
    assert champion is not None
    return champion, str(other)


def test_a_model_is_chosen_to_be_compared_with(page: Page, address: str, shown_lake: TestLake) -> None:
    champion, other = by_slide(shown_lake)
    page.goto(f"{address}/models")
    box = page.get_by_role("combobox", name="Compare with")
    box.click()
    page.get_by_role("option", name=re.compile(other)).click()
    page.wait_for_url(re.compile(f"compare={other}"))
    expect(page.get_by_role("heading", name="A and B compared")).to_be_visible()
    expect(page.get_by_text("Flips.")).to_be_visible()
    for model_id in (champion, other):
        expect(page.get_by_text(f"Model {model_id} (models:/histolake/")).to_be_visible()
    settle(page)
    chart = page.get_by_test_id("stVegaLiteChart").first
    until(lambda: len(np.unique(pixels(chart).reshape(-1, 3), axis=0)) > 20, "the ROC curves are drawn")
    [numbers] = [text for text in page.get_by_test_id("stDataFrame").all_text_contents() if "B less A" in text]
    assert "balanced accuracy" in numbers


def test_a_champion_is_made_by_pressing_yes_and_not_by_pressing_no(
    page: Page, address: str, shown_lake: TestLake
) -> None:
    champion, other = by_slide(shown_lake)
    page.goto(f"{address}/models?model={other}")
    ask = page.get_by_role("button", name=f"Make {other} the champion")
    dialog = page.get_by_role("dialog")

    ask.click()
    expect(dialog).to_contain_text(f"in the place of {champion}")
    dialog.get_by_role("button", name="Leave it").click()
    expect(dialog).to_have_count(0)
    assert models.champion(shown_lake.root) == champion

    ask.click()
    dialog.get_by_label("Reason").fill("fewer false positives")
    dialog.get_by_role("button", name="Make champion").click()
    expect(page.get_by_text(f"Model {other} is the champion.")).to_be_visible()
    expect(dialog).to_have_count(0)
    expect(ask).to_have_count(0)
    expect(page.get_by_text(f"Champion {other}")).to_be_visible()
    assert models.champion(shown_lake.root) == other
    entry = shown_lake.read("runs").filter(stage="settings").sort("finished_at").row(-1, named=True)
    assert json.loads(entry["identity"]) == {"name": "champion"}
    assert json.loads(entry["parameters"]) == {"model_id": other, "reason": "fewer false positives"}
    page.get_by_text("Champions so far").click()
    expect(page.get_by_test_id("stDataFrame").filter(has_text="fewer false positives")).to_have_count(1)
