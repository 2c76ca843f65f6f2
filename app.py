"""The app: worklist, heatmaps and metrics of a lake. Start it with `histolake app`."""

from __future__ import annotations

import streamlit as st

from viewer.frame import run_page, show_banner

st.set_page_config(page_title="histolake", layout="wide")
st.set_option("client.toolbarMode", "viewer")
st.set_option("client.showErrorDetails", "none")  # a traceback is for the terminal, and offers itself to search engines
page = st.navigation(
    [
        st.Page("viewer/pages/worklist.py", title="Worklist", default=True),
        st.Page("viewer/pages/heatmap.py", title="Heatmap"),
        st.Page("viewer/pages/metrics.py", title="Metrics"),
        st.Page("viewer/pages/sql.py", title="SQL"),
    ],
    position="top",
)
show_banner()
run_page(page)
