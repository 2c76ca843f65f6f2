"""What stands around every page: the banner, the way in when there is no lake, and errors as sentences."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from lake import session, store
from lake.heatmap_frame import BANNER, BANNER_PAPER, PAPER
from udfs.errors import HistolakeError
from viewer import reading
from viewer.text import escaped

_BANNER_STYLE = (
    f"position: fixed; bottom: 0; left: 0; right: 0; z-index: 1000; padding: 0.35rem; text-align: center; "
    f"font-weight: 600; color: rgb{PAPER}; background: rgb{BANNER_PAPER};"
)


_LESS_SPACE = (
    "<style>.stMainBlockContainer { padding-top: 4.5rem; }</style>"  # above the page: Streamlit leaves 10 lines
)


def show_banner() -> None:
    """Keep "Research use only. Not for diagnosis." at the bottom of the window, however far one scrolls."""
    st.html(_LESS_SPACE)
    st.html(f'<div role="note" style="{_BANNER_STYLE}">{BANNER}</div>')


def run_page(page: Page) -> None:
    """Run a page on the lake; without one, without slides, or after an error, say what to do."""
    root = session.lake_path()
    if not store.is_lake(root):
        _explain_missing(root)
        return
    try:
        if reading.worklist(reading.open_lake()).is_empty():
            _explain_empty(root)
        else:
            page.run()
    except HistolakeError as error:
        st.error(escaped(str(error)))


def _explain_missing(root: Path) -> None:
    st.title("No lake yet")
    st.markdown(f"There is no lake at {escaped(str(root))}. To see one at once, made from synthetic slides:")
    st.code("histolake demo --folder demo\nhistolake app --lake demo/lake", language="bash")
    st.markdown("To make one of your own slides:")
    st.code(_own_slides(root), language="bash")
    st.markdown(
        "Another lake is named by `histolake app --lake PATH`, or by the environment variable `HISTOLAKE_LAKE`."
    )


def _explain_empty(root: Path) -> None:
    st.title("No slides yet")
    st.markdown(f"The lake at {escaped(str(root))} holds no slides. Register some, and score them:")
    st.code(_own_slides(root), language="bash")


def _own_slides(root: Path) -> str:
    lines = (
        f"export HISTOLAKE_LAKE={str(root)!r}",
        "histolake ingest 'slides/*.tif' --annotations 'slides/*.xml'",
        "histolake run        # patches, labels, features",
        "histolake train      # needs annotated slides",
        "histolake predict",
        "histolake evaluate",
    )
    return "\n".join(lines)
