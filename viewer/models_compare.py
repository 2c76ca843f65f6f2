"""Two models compared: how their numbers differ, and on which slides they disagree."""

from __future__ import annotations

import polars as pl
import streamlit as st

from lake.compare import Comparison
from udfs.errors import HistolakeError
from viewer.models_numbers import COUNTS, SCOPES, called
from viewer.models_panels import slide_link
from viewer.models_reading import comparison
from viewer.reading import Lake, Row
from viewer.text import escaped, estimate


def show_comparison(lake: Lake, a: Row, b: Row, split: str) -> None:
    """Show how the numbers of two models differ on a split, and the slides whose patches flip."""
    st.subheader("A and B compared", help="Differences are B less A; intervals by bootstrap over the same slides.")
    try:
        found = comparison(lake, a["model_id"], b["model_id"])
    except HistolakeError as error:
        st.info(escaped(str(error)))
        return
    if not found.metrics.filter(split=split)["is_same_lake"].fill_null(True).all():
        st.warning("Not all was measured on the same slides, patches and labels: `histolake evaluate --model MODEL`.")
    st.dataframe(compared(found, split), hide_index=True, placeholder="")
    _show_flips(found, split)


def compared(found: Comparison, split: str) -> pl.DataFrame:
    """The numbers of a split in words: those that were measured, and the differences with intervals of pairs."""
    pairs = {row["name"]: row for row in found.paired if row["split"] == split}
    lines = []
    rows = found.metrics.filter(split=split).sort(pl.col("scope").cast(pl.Enum(list(SCOPES))), "name")
    for row in rows.to_dicts():
        pair = pairs.get(row["name"], {}) if row["scope"] == "patch" else {}
        is_count = row["name"] in COUNTS
        lines.append(
            {
                "of": SCOPES[row["scope"]],
                "metric": called(row["name"]),
                "A": _estimate(row["value_a"], row["low_a"], row["high_a"], is_count=is_count),
                "B": _estimate(row["value_b"], row["low_b"], row["high_b"], is_count=is_count),
                "B less A": _estimate(
                    pair.get("difference", row["difference"]),
                    pair.get("low"),
                    pair.get("high"),
                    is_count=is_count,
                    sign="+",
                ),
            }
        )
    return pl.DataFrame(lines, dict.fromkeys(("of", "metric", "A", "B", "B less A"), pl.String))


def _estimate(
    value: float | None, low: float | None, high: float | None, *, is_count: bool, sign: str = ""
) -> str | None:
    if value is None:
        return None
    if is_count:
        return f"{value:{sign},.0f}"
    return estimate(value, low, high, sign)


def _show_flips(found: Comparison, split: str) -> None:
    slides = found.slides.filter(split=split)
    changed = found.changed.filter(split=split)
    st.markdown(
        f"**Flips.** {changed.height:,} of {slides.height:,} {split} slides have patches that only one of the models "
        f"calls tumor; {slides['is_flipped'].sum():,} slides as a whole are called otherwise."
    )
    if changed.is_empty():
        return
    links = [
        pl.Series(f"open_{letter}", [slide_link(slide_id, model["model_id"]) for slide_id in changed["slide_id"]])
        for letter, model in (("a", found.model_a), ("b", found.model_b))
    ]
    st.dataframe(
        changed.with_columns(links).select(list(_FLIPS)),
        hide_index=True,
        column_config=_FLIPS,
        placeholder="",
    )


_NUMBER, _TEXT, _LINK = st.column_config.NumberColumn, st.column_config.TextColumn, st.column_config.LinkColumn
_FLIPS = {
    "slide_id": _TEXT("Slide", pinned=True),
    "open_a": _LINK("Under A", display_text="open"),
    "open_b": _LINK("Under B", display_text="open"),
    "label": _TEXT("Label"),
    "patches": _NUMBER("Patches", format="localized"),
    "to_tumor": _NUMBER("To tumor", format="localized", help="Patches that B calls tumor and A does not"),
    "to_normal": _NUMBER("To normal", format="localized", help="Patches that A calls tumor and B does not"),
    "largest_difference": _NUMBER("Largest change", format="%+.3f", help="Of a patch's probability, B less A"),
    "score_a": _NUMBER("A", format="%.3f", help="Mean of the ten highest probabilities"),
    "score_b": _NUMBER("B", format="%.3f", help="Mean of the ten highest probabilities"),
    "call_a": _TEXT("A calls it"),
    "call_b": _TEXT("B calls it"),
}
