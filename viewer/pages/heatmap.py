"""Heatmap: one slide, the champion's tumor probability over it, and its hottest patches."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.heatmap import choose_slide, show_slide

lake = reading.open_lake()
controls, main = st.columns([1, 3], gap="medium")
with controls:
    slide = choose_slide(reading.worklist(lake))
if slide:
    show_slide(lake, slide, controls, main)
else:
    main.info("Choose a slide to see its heatmap; the worklist shows which are the most suspicious.")
