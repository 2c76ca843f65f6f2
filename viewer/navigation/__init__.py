"""The script that Streamlit runs; in a folder of its own, for beside it Streamlit would take pages/ for its own."""
