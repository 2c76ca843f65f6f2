"""Lineage: who wrote what when, what changed from version to version, what failed, and whether promises are kept."""

from __future__ import annotations

import polars as pl
import streamlit as st

from viewer import reading
from viewer.lineage_ledger import show_ledger
from viewer.lineage_promises import show_promises
from viewer.lineage_reading import tables
from viewer.lineage_tables import choose_table, show_difference, show_history, show_tables

st.title("Lineage")
lake = reading.open_lake()
listed = tables(lake)
show_tables(listed)

st.header("Versions of a table")
name = choose_table(listed)
newest = listed.filter(pl.col("table_name") == name)["version"][0]
show_history(lake, name, newest)
show_difference(lake, name, newest)

st.header("Ledger")
show_ledger(lake)

st.header("Promises")
show_promises(lake)

st.header("From the terminal")
st.caption("Where one prediction comes from, and whether a model comes out again:")
st.code("histolake explain SLIDE X Y\nhistolake reproduce MODEL", language="bash")
