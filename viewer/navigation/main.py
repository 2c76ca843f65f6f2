"""What every visit runs: the navigation between pages, and what stands around them."""

from __future__ import annotations

import streamlit as st

from viewer.frame import run_page, show_banner

st.set_page_config(page_title="histolake", layout="wide")
st.set_option("client.toolbarMode", "viewer")
st.set_option("client.showErrorDetails", "none")  # a traceback is for the terminal, and offers itself to search engines
page = st.navigation(
    [
        st.Page("../pages/worklist.py", title="Worklist", default=True),
        st.Page("../pages/viewer.py", title="Viewer"),
        st.Page("../pages/models.py", title="Models"),
        st.Page("../pages/sql.py", title="SQL"),
        st.Page("../pages/lineage.py", title="Lineage"),
    ],
    position="top",
)
show_banner()
run_page(page)
