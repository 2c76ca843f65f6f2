"""SQL: one statement on the lake, read-only and within limits, its answer as a table and a chart."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.sql_catalog import show_catalog
from viewer.sql_page import show_answer, show_editor

lake = reading.open_lake()
st.title("SQL")
beside, main = st.columns([1, 2.6], gap="medium")
with beside:
    show_catalog(reading.catalog(lake))
with main:
    show_editor(lake)
    show_answer(lake)
