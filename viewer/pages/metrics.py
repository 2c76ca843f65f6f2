"""Metrics: how the champion's probabilities agree with the labels, per split."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.metrics import show_charts, show_model, show_tables

st.title("Metrics")
performance = reading.performance(reading.open_lake())
if model := show_model(performance):
    show_tables(performance.metrics, model["threshold"])
    show_charts(performance)
