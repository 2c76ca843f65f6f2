"""What the tests of the app's pages read off a page."""

from __future__ import annotations

import polars as pl
from streamlit.testing.v1 import AppTest

Color = tuple[float, float, float]

AA_TEXT = 4.5  # least contrast of text


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


def rgb(text: str) -> Color:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def luminance(color: Color) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Color, other: Color) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
