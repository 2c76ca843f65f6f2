"""The parts of the worklist page."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import polars as pl
import streamlit as st

from viewer.audited import recorded_download
from viewer.gate import tokens_for
from viewer.reading import Lake
from viewer.text import escaped

SPELLED_OUT = 5  # failures
ROW_PX, TALLEST_PX = 56, 900  # a row has room for a thumbnail
UNKNOWN = "unknown"  # label

_NUMBER = st.column_config.NumberColumn
_TEXT = st.column_config.TextColumn

_COLUMNS: dict[str, Any] = {
    "thumbnail": st.column_config.ImageColumn("Picture", width=64),
    "slide_id": st.column_config.ButtonColumn(
        "Slide", alignment="left", type="secondary", key="opened", help="Opens the slide here"
    ),
    "link": st.column_config.LinkColumn(
        "Tab", display_text=":material/open_in_new:", width=48, help="Opens the slide in a tab of its own"
    ),
    "split": _TEXT("Split", width=86),
    "label": _TEXT("Label", help="Of the whole slide, from the manifest", width=80),
    "status": _TEXT("Status", width=104),
    "score": st.column_config.ProgressColumn(
        "Slide score",
        help="Mean of the ten highest tumor probabilities of the slide (mean_top10)",
        min_value=0,
        max_value=1,
        format="%.3f",
        color="primary",
        width=120,
    ),
    "highest": _NUMBER("Highest", help="Highest tumor probability of a patch", format="%.3f", width=84),
    "hotspots": _NUMBER(
        "Hotspots",
        help="Peaks of the heatmap, as `histolake evaluate` finds them by default; empty until it has run",
        format="localized",
        width=84,
    ),
    "tissue_mm2": _NUMBER(
        "Tissue, mm²",
        help="Tissue in the patches of the tiling shown, by the tissue fraction of each; empty where there is no grid",
        format="%.2f",
        width=100,
    ),
    "patches": _NUMBER("Patches", help="Patches that the champion gave a probability", format="localized", width=84),
    "last_run": st.column_config.DatetimeColumn(
        "Last run, UTC", help="When the lake last recorded work on the slide", format="YYYY-MM-DD HH:mm", width=136
    ),
    "reason": _TEXT("Reason", help="Why the slide, or one of its stages, failed", width="large"),
    "remedy": _TEXT("What to do", help="The command to type", width="large"),
}
_OPTIONAL = ("reason", "remedy")


def choose(slides: pl.DataFrame) -> pl.DataFrame:
    """The slides that the filters above the table leave; the address keeps the filters."""
    labelled = slides.with_columns(pl.col("label").fill_null(UNKNOWN))
    search, *filters = st.columns([2, 1, 1, 1])
    text = search.text_input(
        "Search", key="search", bind="query-params", type="search", placeholder="Part of a slide's name", live=True
    )
    keep = pl.col("slide_id").str.to_lowercase().str.contains((text or "").strip().lower(), literal=True)
    for column, name in zip(filters, ("split", "label", "status"), strict=True):
        values = labelled[name].unique().sort().to_list()
        chosen = column.multiselect(name.capitalize(), values, key=name, bind="query-params", placeholder="All")
        if chosen:
            keep &= pl.col(name).is_in(chosen)
    return labelled.filter(keep)


def show_table(lake: Lake, shown: pl.DataFrame, total: int) -> str | None:
    """Show the slides that are left of `total`; returns the slide_id that was clicked, if any."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.caption(_summary(shown, total))
    if shown.is_empty():
        st.info("No slide is like that; take a filter away.")
        return None
    right.download_button(
        "CSV",
        recorded_download(lake, "worklist.csv", {"slides": shown.height}, shown.write_csv),
        "worklist.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
        width="stretch",
        help="These slides, as a file",
    )
    token = tokens_for("thumbnail")
    slides = shown.select("slide_id", "is_readable").rows()
    pictures = [thumbnail(slide_id, token(slide_id)) if is_readable else None for slide_id, is_readable in slides]
    table = shown.with_columns(
        pl.Series("thumbnail", pictures, pl.String),
        pl.Series("link", [link(slide_id) for slide_id, _ in slides], pl.String),
    )
    columns = [name for name in _COLUMNS if name not in _OPTIONAL or table[name].is_not_null().any()]
    st.dataframe(
        table.select(columns),
        hide_index=True,
        column_config={name: _COLUMNS[name] for name in columns},
        row_height=ROW_PX,
        height=min(40 + ROW_PX * shown.height, TALLEST_PX),
        placeholder="",
        key="worklist",
        alt="Slides, the highest score first",
    )
    _spell_out_failures(shown.filter(pl.col("reason").is_not_null()))
    click = st.session_state.get("opened")
    return str(shown["slide_id"][click.row]) if click else None


def link(slide_id: str) -> str:
    """Where the slide is looked at, relative to the worklist's own address."""
    return f"viewer?{urlencode({'slide': slide_id})}"


def thumbnail(slide_id: str, token: str) -> str:
    """Where the app's server has the slide's picture, for whom the token is."""
    return f"/histolake/thumbnails/{quote(slide_id, safe='')}.jpeg?token={token}"


def _spell_out_failures(failed: pl.DataFrame) -> None:
    """Write the first reasons in full: the table's cells cut them off."""
    lines = [
        f"**{escaped(name)}**: {escaped(why)}" + (f" → {escaped(what)}" if what else "")
        for name, why, what in failed.select("slide_id", "reason", "remedy").rows()
    ]
    if lines:
        more = len(lines) - SPELLED_OUT
        st.error("  \n".join(lines[:SPELLED_OUT] + ([f"{more:,} more in the table"] if more > 0 else [])))


def _summary(shown: pl.DataFrame, total: int) -> str:
    counts = dict(shown["status"].value_counts().iter_rows())
    parts = [f"{count:,} {status}" for status, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    slides = f"{total:,} slides" if shown.height == total else f"{shown.height:,} of {total:,} slides"
    return f"{slides}{': ' if parts else ''}{', '.join(parts)}. Click a slide to open it, a heading to sort."
