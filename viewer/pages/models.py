"""Models: what each was measured to do, two of them compared, and which one is the champion."""

from __future__ import annotations

import streamlit as st

from viewer import reading
from viewer.models_compare import show_comparison
from viewer.models_list import choose, show_facts, show_list
from viewer.models_mlflow import show_runs
from viewer.models_numbers import show_protocols, show_state, show_tables
from viewer.models_panels import SPLITS, Subject, View, show_confusion, show_curves, show_froc, show_slides
from viewer.models_promotion import show_promotion
from viewer.models_reading import measured, model_list

st.title("Models")
lake = reading.open_lake()
models = model_list(lake)
if models.is_empty():
    st.info("No model yet: `histolake train` fits one, `histolake predict` and `histolake evaluate` measure it.")
    st.stop()
show_list(models)
first, second = choose(models)
rows = [first] if second is None else [first, second]
letters = [None] if second is None else ["A", "B"]
subjects = [Subject(row, measured(lake, row["model_id"]), letter) for row, letter in zip(rows, letters, strict=True)]
is_measured = []
for subject in subjects:
    show_facts(subject.model)
    is_measured.append(show_state(subject))
show_promotion(lake, first)
split = None
if second is not None:
    split = st.segmented_control("Split", SPLITS, default=SPLITS[0], required=True, key="split")
view = View(subjects, split)
show_curves(view)
if any(is_measured):
    show_confusion(view)
    slides, froc = st.columns(2, gap="medium")
    with slides:
        show_slides(view)
    with froc:
        show_froc(lake, view)
if second is not None and split is not None:
    show_comparison(lake, first, second, split)
elif all(is_measured):
    st.subheader("Numbers", help="Beside each number its 95 % interval by bootstrap over slides.")
    show_tables(subjects[0].measured.metrics)
    show_protocols(subjects[0])
show_runs(lake, models, first)
