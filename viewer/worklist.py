"""The parts of the worklist page."""

from __future__ import annotations

import polars as pl
import streamlit as st

_NUMBER = st.column_config.NumberColumn
_TEXT = st.column_config.TextColumn

_COLUMNS = {
    "slide_id": _TEXT("Slide"),
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


def show_table(slides: pl.DataFrame) -> tuple[pl.DataFrame, list[int]]:
    """Show the slides; returns them and the positions of those that were clicked, or ticked."""
    st.caption(_summary(slides))
    if "scored" not in slides["status"]:
        st.info("No slide is scored yet: `histolake run`, `histolake train` and `histolake predict` do that.")
    columns = [name for name in _COLUMNS if name != "reason" or slides["reason"].is_not_null().any()]
    state = st.dataframe(
        slides.select(columns),
        hide_index=True,
        column_config={name: _COLUMNS[name] for name in columns},
        height=min(38 + 35 * max(slides.height, 1), 720),
        placeholder="",
        on_select="rerun",
        selection_mode=["single-row", "single-cell"],
        key="worklist",
    )
    return slides, [*state.selection.rows, *(row for row, _ in state.selection.cells)]


def chosen_slide(shown: tuple[pl.DataFrame, list[int]]) -> str | None:
    """The slide_id that was chosen in the table, if any."""
    slides, positions = shown
    return str(slides["slide_id"][positions[0]]) if positions else None


def _summary(slides: pl.DataFrame) -> str:
    counts = dict(slides["status"].value_counts().iter_rows())
    parts = [f"{count:,} {status}" for status, count in sorted(counts.items(), key=lambda item: -item[1])]
    return f"{slides.height:,} slides: {', '.join(parts)}. Click one to see its heatmap; click a heading to sort."
