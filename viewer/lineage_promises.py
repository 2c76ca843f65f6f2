"""The promises on the page: run when asked for, and what they came to the last time."""

from __future__ import annotations

import polars as pl
import streamlit as st

from lake.checks import Check
from viewer.lineage_reading import Checked, last_checked, run_checks
from viewer.reading import Lake
from viewer.table import height
from viewer.text import escaped

SHOWN = 100  # rows that break a promise
KEPT, NOTICE, BROKEN = "✓ kept", "ⓘ notice", "✗ broken"


def show_promises(lake: Lake) -> None:
    """Let a person check every promise, and show the last state that this app knows of."""
    checked = last_checked().get(lake.root)
    if st.button("Check all promises", key="check", help="Reads whole tables: on a large lake it takes a while."):
        bar = st.progress(0.0, text="opening the lake")
        checked = run_checks(lake, bar)
        bar.empty()
    if checked is None:
        st.info("Not checked since the app was started. The button checks here, `histolake check` at the terminal.")
        return
    _show(checked, lake)


def _show(checked: Checked, lake: Lake) -> None:
    rows = pl.DataFrame(
        [{"state": _state(each), "promise": each.about, "rows": each.violations.height} for each in checked.checks]
    )
    broken = rows.filter(state=BROKEN).height
    when = f"{checked.at:%Y-%m-%d %H:%M:%S} UTC, at version {checked.version:,} of the ledger"
    stale = "" if checked.version == lake.version else " The lake has changed since: check again."
    say = st.error if broken else st.success
    say(escaped(f"{broken:,} of {rows.height:,} promises broken, checked {when}.{stale}"))
    config = {
        "state": st.column_config.TextColumn("State", width="small", pinned=True),
        "promise": st.column_config.TextColumn("Promise", width="large"),
        "rows": st.column_config.NumberColumn("Rows against it", format="localized"),
    }
    order = pl.col("state").cast(pl.Enum([BROKEN, NOTICE, KEPT]))
    st.dataframe(rows.sort(order), hide_index=True, column_config=config, height=height(rows.height, 12))
    for each in checked.checks:
        if each.violations.height:
            more = f", the first {SHOWN:,}" if each.violations.height > SHOWN else ""
            with st.expander(escaped(f"{_state(each)}: {each.about} {each.violations.height:,} rows{more}")):
                st.dataframe(each.violations.head(SHOWN), hide_index=True, placeholder="")


def _state(each: Check) -> str:
    if each.violations.is_empty():
        return KEPT
    return BROKEN if each.is_broken else NOTICE
