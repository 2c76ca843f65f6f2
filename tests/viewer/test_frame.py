"""What stands around every page: colors that can be read, the moment that is shown, and ways out of every trouble."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from support import ROOT, TestLake
from viewer_support import AA_TEXT, Color, Open, banner, contrast, rgb, words

from lake import store
from lake.heatmap_frame import BANNER, BANNER_PAPER, PAPER
from lake.tables import FORMAT

AA_PARTS = 3.0  # least contrast of what tells a control from its surroundings
FADED = 0.6  # opacity of Streamlit's captions
THEMES = ("light", "dark")
BUTTON_TEXT = {"light": (255, 255, 255), "dark": (20, 23, 28)}  # of viewer/frame.py, on primaryColor
HUES = ("red", "orange", "yellow", "green", "blue", "violet", "gray")


def blend(color: Color, ground: Color, opacity: float) -> Color:
    red, green, blue = (opacity * c + (1 - opacity) * g for c, g in zip(color, ground, strict=True))
    return red, green, blue


def in_caption(color: Color, page: Color) -> Color:
    """A color as Streamlit's captions fade it, to whole numbers, as a screen shows it."""
    red, green, blue = (float(round(part)) for part in blend(color, page, FADED))
    return red, green, blue


def theme(name: str) -> dict[str, Color]:
    config = tomllib.loads((ROOT / "viewer/theme.toml").read_text(encoding="utf-8"))
    return {key: rgb(value) for key, value in config["theme"][name].items()}


def hints(app: AppTest) -> list[str]:
    return [element.value for element in app.markdown if "has changed" in element.value]


def test_black_on_white_has_the_contrast_that_wcag_says() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("name", THEMES)
def test_text_can_be_read_on_every_ground_of_a_theme(name: str) -> None:
    color = theme(name)
    page, panel = color["backgroundColor"], color["secondaryBackgroundColor"]
    pairs = [(color[text], ground) for text in ("textColor", "linkColor") for ground in (page, panel)]
    pairs += [(blend(color["textColor"], ground, FADED), ground) for ground in (page, panel)]
    code = color["codeTextColor"], color["codeBackgroundColor"]
    pairs += [code, (in_caption(code[0], page), in_caption(code[1], page))]
    pairs += [(color["dataframeHeaderTextColor"], color["dataframeHeaderBackgroundColor"])]
    pairs += [(color[f"{hue}TextColor"], ground) for hue in HUES for ground in (page, color[f"{hue}BackgroundColor"])]
    pairs += [(BUTTON_TEXT[name], color["primaryColor"])]
    assert [pair for pair in pairs if contrast(*pair) < AA_TEXT] == []
    assert all(contrast(color["primaryColor"], ground) >= AA_PARTS for ground in (page, panel))


def test_the_banner_can_be_read() -> None:
    assert contrast(PAPER, BANNER_PAPER) >= AA_TEXT


def test_every_page_says_research_use_only_and_names_champion_and_table_versions(
    open_page: Open, full_lake: TestLake
) -> None:
    [model] = full_lake.read("models").to_dicts()
    versions = full_lake.versions()
    app = open_page(full_lake.root, "worklist")
    for page in ("worklist", "viewer", "models", "sql", "lineage"):
        app.switch_page(f"../pages/{page}.py")
        app.run()
        assert not app.exception, app.exception[0].stack_trace
        text = banner(app)
        assert BANNER in text
        assert f"Champion {model['model_id']} · {model['encoder_id']}" in text
        assert f"predictions {versions['predictions']}, detections {versions['detections']}" in text


def test_a_lake_that_changes_is_shown_as_it_was_until_refreshed(
    open_page: Open, full_lake: TestLake, slides: Path
) -> None:
    app = open_page(full_lake.root, "worklist")
    assert len(app.dataframe[0].value) == 6
    assert not hints(app)
    assert not app.button
    (slides / "normal_1.tif").rename(slides / "normal_1_gone.tif")
    (slides / "late.tif").write_bytes(b"no slide")
    full_lake("ingest", str(slides / "late.tif"))
    app.run()
    assert len(hints(app)) == 1
    assert len(app.dataframe[0].value) == 6
    app.button(key="refresh").click().run()
    assert "late" in app.dataframe[0].value["slide_id"].to_list()
    assert not hints(app)


def test_old_pages_of_a_vacuumed_lake_are_a_sentence_and_refreshing_helps(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "worklist")
    full_lake.ok("optimize", "runs")
    full_lake.ok("vacuum", "--keep-hours", "0")
    app.switch_page("../pages/models.py")
    app.run()
    assert not app.exception
    assert "deleted while the lake was open" in app.error[0].value
    app.button(key="refresh").click().run()
    assert not app.error
    assert not app.exception


def test_without_a_model_the_foot_says_so(open_page: Open, lake: TestLake) -> None:
    assert "No model yet" in banner(open_page(lake.root, "worklist"))


def test_a_lake_of_a_newer_histolake_is_a_sentence(open_page: Open, lake: TestLake) -> None:
    store.put(lake.root, "settings", [{"name": "format", "value": str(FORMAT + 1)}], "test")
    [error] = open_page(lake.root, "worklist").error
    assert f"format {FORMAT + 1}" in error.value
    assert "update histolake" in error.value


def test_a_lake_of_an_older_histolake_says_how_to_mend_it(open_page: Open, lake: TestLake) -> None:
    (lake.root / "reviews").rename(lake.root.parent / "reviews")
    assert "`histolake optimize`" in open_page(lake.root, "worklist").error[0].value


def test_a_ledger_that_cannot_be_read_is_a_sentence(open_page: Open, full_lake: TestLake) -> None:
    for file in (full_lake.root / "runs" / "_delta_log").iterdir():
        file.write_bytes(b"torn")
    app = open_page(full_lake.root, "worklist")
    assert str(full_lake.root) in words(app)
    assert app.error


def test_the_app_shows_no_traceback_and_sends_nobody_elsewhere(open_page: Open, full_lake: TestLake) -> None:
    open_page(full_lake.root, "worklist")
    assert st.get_option("client.showErrorDetails") == "none"
    config = tomllib.loads((ROOT / ".streamlit/config.toml").read_text(encoding="utf-8"))
    assert config["client"]["showErrorLinks"] is False
    assert config["server"]["maxUploadSize"] == 1
    assert (ROOT / config["theme"]["base"]).is_file()
