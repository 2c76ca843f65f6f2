"""The slide viewer's browser side: a Streamlit component, installed under the distribution's own name."""
