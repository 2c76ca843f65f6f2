"""The parts of the worklist page."""

from __future__ import annotations

from typing import Any

import polars as pl
import streamlit as st

from viewer.text import escaped

SPELLED_OUT = 5  # failures

_NUMBER = st.column_config.NumberColumn
_TEXT = st.column_config.TextColumn

_COLUMNS: dict[str, Any] = {
    "slide_id": st.column_config.ButtonColumn("Slide", alignment="left", type="secondary", key="opened"),
    "split": _TEXT("Split"),
    "label": _TEXT("Label", help="Of the whole slide, from the manifest"),
    "status": _TEXT("Status"),
    "patches": _NUMBER(
        "Patches scored", help="Tissue patches that the champion gave a probability", format="localized"
    ),
    "highest": _NUMBER("Highest", help="Highest tumor probability of a patch", format="%.3f"),
    "mean_top10": _NUMBER("Mean of top 10", help="Mean of the ten highest tumor probabilities", format="%.3f"),
    "reason": _TEXT("Reason", help="Why the slide, or one of its stages, failed", width="large"),
}


def show_table(slides: pl.DataFrame) -> str | None:
    """Show the slides; returns the slide_id that was clicked, if any."""
    st.caption(_summary(slides))
    if "scored" not in slides["status"]:
        st.info("No slide is scored yet: `histolake run`, `histolake train` and `histolake predict` do that.")
    columns = [name for name in _COLUMNS if name != "reason" or slides["reason"].is_not_null().any()]
    st.dataframe(
        slides.select(columns),
        hide_index=True,
        column_config={name: _COLUMNS[name] for name in columns},
        height=min(38 + 35 * max(slides.height, 1), 720),
        placeholder="",
        key="worklist",
    )
    _spell_out_failures(slides.filter(pl.col("reason").is_not_null()))
    click = st.session_state.get("opened")
    return str(slides["slide_id"][click.row]) if click else None


def _spell_out_failures(failed: pl.DataFrame) -> None:
    """Write the first reasons in full: the table's cells cut them off."""
    lines = [f"**{escaped(name)}**: {escaped(why)}" for name, why in failed.select("slide_id", "reason").rows()]
    if lines:
        more = len(lines) - SPELLED_OUT
        st.error("  \n".join(lines[:SPELLED_OUT] + ([f"{more:,} more in the table"] if more > 0 else [])))


def _summary(slides: pl.DataFrame) -> str:
    counts = dict(slides["status"].value_counts().iter_rows())
    parts = [f"{count:,} {status}" for status, count in sorted(counts.items(), key=lambda item: -item[1])]
    return f"{slides.height:,} slides: {', '.join(parts)}. Click a slide to see its heatmap, a heading to sort."
