"""Worklist: one row per slide, the most suspicious first. Choosing one opens it in the viewer."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.worklist import choose, show_table

st.title("Worklist")
lake = reading.open_lake()
slides = reading.worklist(lake)
if "scored" not in slides["status"]:
    st.info("No slide is scored yet: `histolake run`, `histolake train` and `histolake predict` do that.")
slide_id = show_table(lake, choose(slides), slides.height)
if slide_id:
    st.switch_page("../pages/viewer.py", query_params={"slide": slide_id})
