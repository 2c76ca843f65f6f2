"""What stands around every page: banner, model and table versions, refresh hint, the way in, errors as sentences."""

from __future__ import annotations

import html
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from lake import store
from lake.choices import Role, lake_path
from lake.heatmap_frame import BANNER, BANNER_PAPER, PAPER
from udfs.errors import HistolakeError
from viewer import reading
from viewer.audited import take_not_saved
from viewer.gate import guarded, renew_tokens
from viewer.person import Person
from viewer.reading import Lake
from viewer.text import escaped

LOOKED_FOR_CHANGES = "10s"
TABLES_SHOWN = (
    "slides",
    "annotations",
    "patches",
    "labels",
    "features",
    "predictions",
    "detections",
    "slide_scores",
    "metrics",
    "reviews",
)

_STYLE = f"""
<style>
.stMainBlockContainer {{ padding: 4.5rem 2rem 5rem; }}
.stElementContainer:has(.histolake-banner, .histolake-moment) {{ position: absolute; }}
.histolake-banner, .histolake-moment {{ position: fixed; bottom: 0; left: 0; right: 0; height: 2.75rem;
    display: flex; align-items: center; color: rgb{PAPER}; print-color-adjust: exact; }}
.histolake-banner {{ z-index: 1000; justify-content: center; font-weight: 600; background: rgb{BANNER_PAPER}; }}
.histolake-moment {{ z-index: 1001; justify-content: space-between; padding: 0 1rem; font-size: 0.75rem;
    line-height: 1.15; }}
.histolake-moment span {{ width: calc(50% - 11rem); background: rgb{BANNER_PAPER}; }}
.histolake-moment span:last-child {{ text-align: right; }}
[data-testid="stTopNavLink"]:focus-visible {{ outline: 2px solid light-dark(#1c5d94, #7cb9ec); }}
[data-testid^="stBaseButton-primary"] {{ color: light-dark(#ffffff, #14171c); }}
.stApp .stCode .token {{ color: inherit; }}
.stApp .stCode .token.string {{ color: light-dark(#12653a, #8fdcb0); }}
.stApp .stCode .token.keyword {{ color: light-dark(#124f86, #a6d0f7); }}
.stApp .stCode .token.comment {{ color: light-dark(#545d6a, #a9b2bf); }}
@media (min-width: 900px) {{
    .st-key-person {{ position: fixed; top: 0.6rem; right: 4rem; width: auto; z-index: 999991; }}
}}
@media (max-width: 800px) {{ .histolake-moment {{ visibility: hidden; }} }}
</style>
"""


def show_banner() -> None:
    """Keep "Research use only. Not for diagnosis." at the foot of the window, however far one scrolls, and in print."""
    st.html(f'{_STYLE}<div role="note" class="histolake-banner">{BANNER}</div>')


def run_page(page: Page, who: Person, wanted: Role) -> None:
    """Run a page, for the role wanted, on the lake; without it, without slides, or after an error, say what to do."""
    root = lake_path()
    try:
        who.require(wanted, f"open the page {page.title}")
        if not store.is_lake(root):
            _explain_missing(root)
            return
        lake = reading.open_lake()
        _hint_at_changes()
        show_moment(lake)
        if reading.overview(lake).slides:
            page.run()
        else:
            _explain_empty(root)
    except HistolakeError as error:
        st.error(escaped(str(error)))


def show_moment(lake: Lake) -> None:
    """Name, beside the banner, the champion and the versions of the tables that the page reads."""
    seen = reading.overview(lake)
    model = seen.model
    champion = f"Champion {model['model_id']} · {model['encoder_id']}" if model else "No model yet"
    versions = ", ".join(f"{name} {seen.versions[name]}" for name in TABLES_SHOWN if seen.versions[name])
    sides = (champion, f"Table versions: {versions or 'all 0'}")
    spans = "".join(f"<span>{html.escape(side)}</span>" for side in sides)
    st.html(f'<div role="note" class="histolake-moment">{spans}</div>')


@st.fragment(run_every=LOOKED_FOR_CHANGES)
@guarded
def _hint_at_changes() -> None:
    """Offer a newer moment of the lake; nothing that is read changes by itself, but for the tokens of its slides."""
    renew_tokens()
    for why in take_not_saved():
        st.error(escaped(why))
    if reading.newest_lake() != reading.open_lake():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(":material/update: The lake has changed since this page was read.", width="content")
            if st.button("Refresh", key="refresh"):
                reading.refresh()
                st.rerun(scope="app")


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
