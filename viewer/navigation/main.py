"""What every visit runs: who is let in, the navigation between pages, and what stands around them."""

from __future__ import annotations

import streamlit as st

from lake.choices import Role
from viewer.frame import run_page, show_banner
from viewer.gate import admit, show_person

PAGES = {  # and the role that each asks for
    "Worklist": Role.viewer,
    "Viewer": Role.viewer,
    "Models": Role.analyst,
    "SQL": Role.analyst,
    "Lineage": Role.analyst,
}

st.set_page_config(page_title="histolake", layout="wide")
st.set_option("client.toolbarMode", "viewer")
st.set_option("client.showErrorDetails", "none")  # a traceback is for the terminal, and offers itself to search engines
show_banner()
who = admit()
page = st.navigation(
    [
        st.Page(
            f"../pages/{title.lower()}.py",
            title=title,
            default=title == "Worklist",
            visibility="visible" if who and who.role.may(wanted) else "hidden",
        )
        for title, wanted in PAGES.items()
    ],
    position="top",
)
if who:
    show_person(who)
    run_page(page, who, PAGES[page.title])
