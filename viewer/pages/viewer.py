"""Viewer: one slide, or two side by side, a model's heatmap over it, and what is known of the patch that is clicked."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.slide_choice import choose
from viewer.slide_viewer import show_slides

lake = reading.open_lake()
shown = choose(lake)
if shown:
    show_slides(lake, shown)
else:
    st.info("Choose a slide to see it; the worklist shows which are the most suspicious.")
