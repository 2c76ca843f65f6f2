"""What the tests of the app's pages read off a page."""

from __future__ import annotations

import polars as pl
from streamlit.testing.v1 import AppTest


def words(app: AppTest) -> str:
    """All that the page says, without Markdown's escapes."""
    elements = [*app.title, *app.markdown, *app.caption, *app.error, *app.info, *app.warning, *app.code]
    return "\n".join(str(element.value) for element in elements).replace("\\", "")


def banner(app: AppTest) -> str:
    """The HTML at the foot of the page."""
    return "".join(element.value for element in app.html)


def tables(app: AppTest) -> list[pl.DataFrame]:
    """The tables of the page, as it got them."""
    return [pl.from_pandas(element.value) for element in app.dataframe]
