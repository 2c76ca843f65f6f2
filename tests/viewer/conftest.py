"""Fixtures of the app's tests: the app on a lake, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from support import ROOT, TestLake

from viewer import reading

Open = Callable[..., AppTest]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Open:
    """`open_page(root, "heatmap", slide="tumor_1")`: a page of the app on the lake at `root`."""

    def opened(root: Path, page: str, **query: str) -> AppTest:
        st.cache_data.clear()
        reading.connected.cache_clear()  # tests change the lake at one path in different ways
        monkeypatch.setenv("HISTOLAKE_LAKE", str(root))
        app = AppTest.from_file(ROOT / "app.py", default_timeout=60).run()
        app.switch_page(f"viewer/pages/{page}.py")
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception, app.exception[0].stack_trace
        return app

    return opened


@pytest.fixture
def lake_with_failure(full_lake: TestLake) -> TestLake:
    """The finished lake, and a file in it that is no slide."""
    broken = full_lake.root.parent / "broken.tif"
    broken.write_bytes(b"no slide at all")
    full_lake("ingest", str(broken))
    return full_lake
