"""Each page of the app, run by Streamlit's own tester on a real lake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import TestLake, run
from viewer_support import Open, banner, words

from lake.heatmap_frame import BANNER

PAGES = ("worklist", "viewer", "models", "sql", "lineage")


@pytest.mark.parametrize("page", PAGES)
def test_without_a_lake_every_page_says_what_to_type(open_page: Open, tmp_path: Path, page: str) -> None:
    app = open_page(tmp_path / "no_lake_here", page)
    text = words(app)
    assert "no_lake_here" in text
    assert "histolake demo" in text
    assert "histolake ingest" in text
    assert BANNER in banner(app)


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_lake_says_how_to_register_slides(open_page: Open, lake: TestLake, page: str) -> None:
    text = words(open_page(lake.root, page))
    assert "No slides yet" in text
    assert "histolake ingest" in text


def test_a_lake_that_cannot_be_read_is_a_sentence_and_no_traceback(open_page: Open, full_lake: TestLake) -> None:
    for file in (full_lake.root / "slides").glob("*.parquet"):
        file.write_bytes(b"not parquet")
    [error] = open_page(full_lake.root, "worklist").error
    assert str(full_lake.root) in error.value.replace("\\", "")
    assert "restore its files" in error.value


def test_a_lake_without_predictions_says_which_commands_are_missing(
    open_page: Open, lake: TestLake, finished: tuple[Path, Path]
) -> None:
    lake.ok("ingest", str(finished[0] / "slides" / "normal_1.tif"))
    assert "histolake predict" in words(open_page(lake.root, "worklist"))
    assert "histolake train" in words(open_page(lake.root, "models"))


def test_the_pages_import_neither_mlflow_nor_an_encoder() -> None:
    code = (
        "import sys, viewer.frame, viewer.models_mlflow, viewer.models_promotion, viewer.routes, viewer.slide_viewer, "
        "viewer.sql_page, viewer.worklist;"
        "print([m for m in ('mlflow', 'sklearn', 'torch', 'onnxruntime', 'keras') if m in sys.modules])"
    )
    answer = run([sys.executable, "-c", code], check=True)
    assert answer.stdout.strip() == "[]"
