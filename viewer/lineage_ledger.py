"""The ledger on the page: how stages stand, and every unit of work, failures first."""

from __future__ import annotations

import polars as pl
import streamlit as st

from viewer.lineage_reading import ledger, ledger_summary
from viewer.reading import Lake
from viewer.table import height, utc
from viewer.text import escaped

ALL = "all"
_TEXT, _NUMBER = st.column_config.TextColumn, st.column_config.NumberColumn
_SUMMARY = {
    "stage": _TEXT("Stage", pinned=True),
    "status": _TEXT("Status"),
    "units": _NUMBER("Units", format="localized"),
    "slides": _NUMBER("Slides", format="localized"),
    "seconds": _NUMBER("Seconds in sum", format="%.1f"),
    "finished_at": utc("Finished"),
}
_ENTRIES = {
    "status": _TEXT("Status", pinned=True),
    "stage": _TEXT("Stage"),
    "slide_id": _TEXT("Slide"),
    "error": _TEXT("First error", width="large"),
    "rows": _NUMBER("Rows", format="localized"),
    "errors": _NUMBER("Rows with errors", format="localized"),
    "seconds": _NUMBER("Seconds", format="%.2f"),
    "finished_at": utc("Finished"),
    "run_id": _TEXT("Run"),
    "identity": _TEXT("Identity"),
    "part": _NUMBER("Part"),
    "table_version": _NUMBER("Table version", format="localized"),
    "code_version": _TEXT("histolake"),
    "is_newest": st.column_config.CheckboxColumn("Newest attempt", help="Whether no later attempt at it was made"),
}


def show_ledger(lake: Lake) -> None:
    """Show how the units of every stage stand, and the entries that a person filters for."""
    summary = ledger_summary(lake)
    if summary.is_empty():
        st.info("Nothing was done yet: `histolake ingest` registers slides, `histolake run` works on them.")
        return
    failed = summary.filter(status="failed")
    if failed.is_empty():
        st.caption(f"{summary['units'].sum():,} units of work, none failed.")
    else:
        told = ", ".join(f"{units:,} of {stage}" for stage, units in failed.select("stage", "units").iter_rows())
        st.error(escaped(f"Failed: {told}. `histolake run --retry-failed` tries them again, once the reason is gone."))
    with st.expander("Stages"):
        st.dataframe(summary, hide_index=True, column_config=_SUMMARY, placeholder="")
    _show_entries(lake, summary)


def _show_entries(lake: Lake, summary: pl.DataFrame) -> None:
    first, second, third = st.columns(3)
    stages = [ALL, *summary["stage"].unique().sort()]
    stage = first.selectbox("Stage", stages, key="ledger stage")
    status = second.selectbox("Status", [ALL, "failed", "empty", "ok"], key="ledger status")
    slide = third.text_input("Slide", placeholder="part of its id", key="ledger slide").strip()
    rows = ledger(lake, None if stage == ALL else stage, None if status == ALL else status, slide or None)
    if rows.is_empty():
        st.info("No entry of the ledger is like that.")
        return
    total = rows["total"][0]
    st.caption(
        f"{total:,} entries"
        + (f", {rows.height:,} shown" if total > rows.height else "")
        + "; failures that still hold first."
    )
    st.dataframe(
        rows.select(list(_ENTRIES)),
        hide_index=True,
        column_config=_ENTRIES,
        placeholder="",
        height=height(rows.height, 12),
        alt="Entries of the ledger",
    )
