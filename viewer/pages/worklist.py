"""Worklist: one row per slide, the most suspicious first. Choosing one opens it in the viewer."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.worklist import show_table

st.title("Worklist")
slide_id = show_table(reading.worklist(reading.open_lake()))
if slide_id:
    st.switch_page("../pages/viewer.py", query_params={"slide": slide_id})
