"""The worklist page in every state of a lake: what it lists, filters, and opens."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest
from support import TestLake
from viewer_support import Open, words

from viewer import worklist


def table(app: AppTest) -> pl.DataFrame:
    [shown] = app.dataframe
    return pl.from_pandas(shown.value)


def test_the_most_suspicious_slide_stands_first(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "worklist")
    shown = table(app)
    assert sorted(shown["slide_id"]) == sorted(full_lake.read("slides")["slide_id"])
    assert shown["score"].to_list() == sorted(shown["score"], reverse=True)
    assert "6 slides: 6 scored" in words(app)
    assert {"reason", "remedy"}.isdisjoint(shown.columns)


def test_a_slide_links_to_its_view_and_its_thumbnail(open_page: Open, full_lake: TestLake) -> None:
    row = table(open_page(full_lake.root, "worklist")).filter(slide_id="tumor_1").row(0, named=True)
    link = urlsplit(row["link"])
    assert (link.path, parse_qs(link.query)) == ("viewer", {"slide": ["tumor_1"]})
    assert row["thumbnail"].startswith("/histolake/thumbnails/tumor_1.jpeg?token=")


@pytest.mark.parametrize("slide_id", ["O'Brien & sons", "50 % / 7", "a?b#c", "Ünï"])
def test_any_name_survives_its_link_and_thumbnail(slide_id: str) -> None:
    link = urlsplit(worklist.link(slide_id))
    assert (link.path, parse_qs(link.query)) == ("viewer", {"slide": [slide_id]})
    address = urlsplit(worklist.thumbnail(slide_id, "1.f"))
    assert (address.query, address.fragment, address.path.count("/")) == ("token=1.f", "", 3)


def test_filters_and_search_leave_what_they_say(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "worklist")
    app.multiselect(key="split").select("test").run()
    assert sorted(table(app)["slide_id"]) == ["normal_2", "tumor_4"]
    assert "2 of 6 slides: 2 scored" in words(app)
    app.text_input(key="search").input("TUMOR").run()
    assert table(app)["slide_id"].to_list() == ["tumor_4"]
    app.text_input(key="search").input("nothing.like[it").run()
    assert not app.dataframe
    assert "take a filter away" in words(app)
    assert not app.exception


def test_the_address_keeps_the_filters(open_page: Open, full_lake: TestLake) -> None:
    script = open_page(full_lake.root, "worklist")._script_path

    def visit(**query: str) -> AppTest:
        app = AppTest.from_file(script, default_timeout=60)
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    app = visit(split="train", search="normal")
    assert table(app)["slide_id"].to_list() == ["normal_1"]
    assert app.multiselect(key="split").value == ["train"]
    app = visit(split="no such split")
    assert table(app).height == 6
    assert not app.exception


def test_a_failed_slide_has_its_reason_and_what_to_type(open_page: Open, lake_with_failure: TestLake) -> None:
    app = open_page(lake_with_failure.root, "worklist")
    row = table(app).filter(slide_id="broken").row(0, named=True)
    assert row["status"] == "failed"
    assert "OpenSlide does not know this format" in row["reason"]
    assert "histolake ingest" in row["remedy"]
    assert row["thumbnail"] is None
    assert "histolake ingest" in "".join(error.value for error in app.error)
    assert "7 slides: 6 scored, 1 failed" in words(app)
    app.multiselect(key="status").select("failed").run()
    assert table(app)["slide_id"].to_list() == ["broken"]


def test_one_slide_without_a_model_says_what_is_missing(
    open_page: Open, lake: TestLake, finished: tuple[Path, Path]
) -> None:
    lake.ok("ingest", str(finished[0] / "slides" / "normal_1.tif"))
    app = open_page(lake.root, "worklist")
    assert "histolake train" in words(app)
    row = table(app).row(0, named=True)
    assert (row["status"], row["label"], row["score"]) == ("not scored", "unknown", None)
    assert row["remedy"] == "`histolake run --slide 'normal_1'`"
    assert not app.error
