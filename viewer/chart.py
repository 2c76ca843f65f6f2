"""Charts on the page: their letters as dark as the page's own."""

from __future__ import annotations

from typing import Literal

import altair as alt
import streamlit as st

INK = "#454d59"  # of a light page's charts: Streamlit's own grey has a contrast of 3.7, and WCAG asks for 4.5

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.HConcatChart | alt.VConcatChart


def draw(chart: Chart, says: str, *, width: Literal["stretch"] | None = "stretch") -> None:
    """Draw a chart; says: what it is of, for those who do not see it."""
    if st.context.theme.type != "dark":
        chart = chart.configure_axis(labelColor=INK, titleColor=INK)
        chart = chart.configure_legend(labelColor=INK, titleColor=INK).configure_header(labelColor=INK, titleColor=INK)
    st.altair_chart(chart, width=width, alt=says)
