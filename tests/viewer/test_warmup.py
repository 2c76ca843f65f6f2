"""The worklist is there before the first visitor."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from support import TestLake

from lake import session
from viewer import reading, warmup


def test_the_first_visitor_finds_the_lake_opened_and_the_worklist_read(
    full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    st.cache_data.clear()
    reading.connected.cache_clear()
    monkeypatch.setenv("HISTOLAKE_LAKE", str(full_lake.root))
    warmup.read_ahead()
    monkeypatch.setattr(session, "connect", None)
    lake = reading.newest_lake()
    assert reading.overview(lake).slides == 6
    assert reading.worklist(lake).height == 6


def test_a_lake_that_is_not_there_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HISTOLAKE_LAKE", str(tmp_path / "nowhere"))
    warmup.read_ahead()
