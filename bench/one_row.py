"""A page of one row, for what Streamlit and the browser take by themselves."""

import streamlit as st

st.dataframe({"slide": ["one"]})
