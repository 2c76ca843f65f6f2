"""What a person can ask for, beside the editor: the lake's tables, views and macros, with their columns, searchable."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import streamlit as st

from lake import sql_files
from lake.tables import TABLES
from viewer.text import escaped

HEADINGS = {"table": "Tables", "view": "Views", "macro": "Macros"}
OWN_TABLES = {
    "snapshot": "The Delta version of every table that is seen.",
    "table_columns": "This list: every column of every table, with its type and what it holds.",
}
UNFOLDED = 4  # relations found at most that are shown with their columns at once
HEIGHT_PX = 760


def abouts(root: Path) -> pl.DataFrame:
    """Every table, view and macro of the lake: kind, name, what it is in a sentence, and its place in the list."""
    views = {path.stem: path for path in sql_files.view_files(root)}
    macros = {path.stem: path for path in sorted((sql_files.SQL / "macros").glob("*.sql"))}
    rows = [("table", table.name, table.about) for table in TABLES.values()]
    rows += [("table", name, about) for name, about in OWN_TABLES.items()]
    for kind, files in (("view", views), ("macro", macros)):
        rows += [(kind, name, sql_files.about(path.read_text(encoding="utf-8"))) for name, path in files.items()]
    return pl.DataFrame(rows, ["kind", "name", "about"], orient="row").with_row_index("position")


def found(catalog: pl.DataFrame, words: str) -> pl.DataFrame:
    """The rows of sql/app/catalog.sql of each relation in which, or in a column of which, every word occurs."""
    text = pl.concat_str("name", "about", "column_name", "column_about", separator=" ", ignore_nulls=True)
    is_hit = pl.all_horizontal(
        pl.lit(True), *(text.str.to_lowercase().str.contains(word, literal=True) for word in words.lower().split())
    )
    return catalog.filter(is_hit.any().over("name"))


def show_catalog(catalog: pl.DataFrame) -> None:
    """Show the rows of sql/app/catalog.sql, and a field to search in them."""
    words = st.text_input(
        "Search tables and columns", placeholder="probability", icon=":material/search:", key="sought"
    )
    shown = found(catalog, words)
    names = shown["name"].n_unique()
    if shown.is_empty():
        st.info(f"No table, view or macro has {escaped(words)!r} in its name, columns or description.")
    with st.container(height=HEIGHT_PX, border=False, gap="xsmall"):
        for kind, heading in HEADINGS.items():
            relations = shown.filter(kind=kind).partition_by("name", maintain_order=True)
            if relations:
                st.caption(heading)
            for relation in relations:
                _show_relation(relation, is_open=bool(words) and names <= UNFOLDED)


def _show_relation(relation: pl.DataFrame, *, is_open: bool) -> None:
    first = relation.row(0, named=True)
    parameters = f"({', '.join(first['parameters'])})" if first["parameters"] is not None else ""
    with st.expander(f"`{first['name']}{parameters}`", expanded=is_open):
        about = first["about"]
        columns = relation.drop_nulls("column_name").select("column_name", "type", "column_about").rows()
        lines = [
            f"- **{escaped(name)}** :gray[{escaped(type_)}]" + (f"  \n  {escaped(holds)}" if holds else "")
            for name, type_, holds in columns
        ]
        st.markdown("\n".join([escaped(about[:1].upper() + about[1:]), "", *lines]))
