"""The lake's tables, the history of one, and what changed between two of its versions."""

from __future__ import annotations

import polars as pl
import streamlit as st

from lake.diff import Difference
from udfs.errors import HistolakeError, shortened
from viewer.lineage_reading import COMMITS, annotation_difference, changes, commits
from viewer.reading import Lake, version_number
from viewer.table import height, utc
from viewer.text import escaped

SHOWN = 100  # rows that differ
_TEXT, _NUMBER = st.column_config.TextColumn, st.column_config.NumberColumn
_TABLES = {
    "table_name": _TEXT("Table", pinned=True),
    "version": _NUMBER("Version", format="localized"),
    "rows": _NUMBER("Rows", format="localized", help="By the log's statistics of its files"),
    "bytes": _NUMBER("Size", format="bytes"),
    "files": _NUMBER("Files", format="localized"),
    "written_at": utc("Written"),
    "stage": _TEXT("By stage"),
    "run_id": _TEXT("Run"),
    "code_version": _TEXT("histolake"),
    "about": _TEXT("Holds", width="large"),
}
_COMMITS = {
    "version": _NUMBER("Version", format="localized", pinned=True),
    "at": utc("At"),
    "operation": _TEXT("Operation"),
    "rows": _NUMBER("Rows written", format="localized"),
    "units": _NUMBER("Units", format="localized", help="Units of work in the commit"),
    "slides": _NUMBER("Slides", format="localized"),
    "run_id": _TEXT("Run"),
    "code_version": _TEXT("histolake"),
}
_UNITS = {
    "change": _TEXT("Change", pinned=True),
    "slide_id": _TEXT("Slide"),
    "identity": _TEXT("Identity", width="large"),
    "part": _NUMBER("Part"),
    "rows_before": _NUMBER("Rows before", format="localized"),
    "rows_after": _NUMBER("Rows after", format="localized"),
    "fingerprint_before": _TEXT("Input before"),
    "fingerprint_after": _TEXT("Input after"),
    "status": _TEXT("Status"),
    "run_id": _TEXT("Run"),
    "finished_at": utc("Finished"),
}


def show_tables(tables: pl.DataFrame) -> None:
    """Show every table at its version, how large it is, and who wrote to it last."""
    rows = f"{tables['rows'].sum():,} rows" if tables["rows"].null_count() == 0 else "an unknown number of rows"
    st.caption(f"{tables.height:,} tables, {rows}, {int(tables['bytes'].sum()) / 1e6:,.1f} MB. Times are UTC.")
    st.dataframe(
        tables.select(list(_TABLES)),
        hide_index=True,
        column_config=_TABLES,
        placeholder="",
        height=height(tables.height),
        alt="The lake's tables",
    )


def choose_table(tables: pl.DataFrame) -> str:
    """The table that the address names by ?table=, by default the one written last."""
    names = tables["table_name"].to_list()
    named = st.query_params.get("table")
    if named and named not in names:
        st.error(escaped(f"table={named}: the lake has no such table; there are {', '.join(names)}."))
    written = tables.filter(pl.col("table_name") != "runs").sort("written_at", descending=True, nulls_last=True)
    st.session_state["chosen table"] = named if named in names else written["table_name"][0]
    return str(st.selectbox("Table", names, key="chosen table", on_change=_name_in_address))


def _name_in_address() -> None:
    st.query_params["table"] = st.session_state["chosen table"]
    for name in ("from", "to"):
        st.query_params.pop(name, None)


def show_history(lake: Lake, name: str, newest: int) -> None:
    """Show who wrote what when to a table."""
    rows = commits(lake, name)
    more = f"; the newest {COMMITS:,} of {newest + 1:,} versions" if newest >= COMMITS else ""
    st.caption(escaped(f"Versions of {name}, the newest first{more}. `histolake history {name}` lists them all."))
    st.dataframe(rows, hide_index=True, column_config=_COMMITS, placeholder="", height=height(rows.height, 8))


def show_difference(lake: Lake, name: str, newest: int) -> None:
    """Let a person choose two versions of a table, and show what differs."""
    if name == "runs":
        st.info("The ledger only grows; its entries stand below.")
        return
    if newest == 0:
        st.info(escaped(f"Nobody has written to {name} yet: it has one version, which is empty."))
        return
    earlier, later = _choose_versions(name, newest)
    if earlier >= later:
        st.info("Choose an earlier version to begin with than the one to end with.")
        return
    st.code(_commands(name, earlier, later), language="bash")
    if not st.toggle("Show what differs", key=f"difference of {name}"):
        return
    try:
        if name == "annotations":
            _show_annotations(annotation_difference(lake, earlier, later))
        else:
            _show_changes(lake, name, earlier, later)
    except HistolakeError as error:
        st.error(escaped(str(error)))


def _choose_versions(name: str, newest: int) -> tuple[int, int]:
    columns = st.columns(2)
    defaults = {"from": newest - 1, "to": newest}
    chosen = []
    for column, (end, default) in zip(columns, defaults.items(), strict=True):
        key, told = f"{end} of {name}", st.query_params.get(end, "")
        named = version_number(told)
        if told and (named is None or named > newest):
            st.error(escaped(f"{end}={shortened(told)}: {name} has the versions 0 to {newest}."))
            named = None
        st.session_state[key] = default if named is None else named
        label = f"{end.capitalize()} version"
        with column:
            chosen.append(st.number_input(label, 0, newest, key=key, on_change=_keep_version, args=(end, key)))
    return chosen[0], chosen[1]


def _keep_version(end: str, key: str) -> None:
    st.query_params[end] = str(st.session_state[key])


def _commands(name: str, earlier: int, later: int) -> str:
    read = f'histolake sql "from {name} limit 10" --at {name}={earlier}'
    return f"histolake diff annotations --from {earlier} --to {later}\n{read}" if name == "annotations" else read


def _show_changes(lake: Lake, name: str, earlier: int, later: int) -> None:
    found = changes(lake, name, earlier, later)
    unit = "units of work" if found.is_by_unit else "rows"
    if found.rows.is_empty():
        st.info(
            escaped(f"{name} has the same {unit} in versions {earlier} and {later}: only its files were arranged anew.")
        )
        return
    counts = ", ".join(f"{count:,} {change}" for change, count in found.counts.items())
    first = f" The first {SHOWN:,} of {found.rows.height:,}:" if found.rows.height > SHOWN else ""
    st.markdown(escaped(f"From version {earlier} to {later} of {name}, {unit}: {counts}.{first}"))
    config = _UNITS if found.is_by_unit else {"change": _TEXT("Change", pinned=True), "what": _TEXT(width="large")}
    st.dataframe(found.rows.head(SHOWN), hide_index=True, column_config=config, placeholder="")


def _show_annotations(found: Difference) -> None:
    st.markdown(f"**Shapes.** {found.shapes.height:,} differ.")
    if found.shapes.height:
        st.dataframe(found.shapes.head(SHOWN), hide_index=True, placeholder="")
    st.markdown(f"**Labels.** {found.patches['to_tumor'].sum():,} patches became tumor, {_normal(found):,} normal.")
    if found.patches.height:
        st.dataframe(found.patches.head(SHOWN), hide_index=True, placeholder="")
    before, after = found.models
    if after is None:
        st.info("No model was trained on the later annotations: `histolake train`.")
    elif before is None:
        st.info(
            escaped(f"Model {after} has none to be compared with: none of its kind was trained on the earlier ones.")
        )
    else:
        st.markdown(escaped(f"Metrics of model {before} and, trained on the later annotations, {after}:"))
        st.dataframe(found.metrics, hide_index=True, placeholder="")


def _normal(found: Difference) -> int:
    return int(found.patches["to_normal"].sum())
