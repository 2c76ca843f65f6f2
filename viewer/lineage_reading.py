"""What the lineage page reads, kept until the lake changes: the statistics of Delta's log, and the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import streamlit as st

from lake import checks, store, table_diff, upkeep
from lake.choices import lake_path
from lake.diff import Difference, annotation_changes
from lake.ledger import ask
from lake.tables import TABLES
from viewer.reading import Lake, ledger_entries

COMMITS = 200  # of a table that are listed
ENTRIES = 500  # of the ledger that are listed


@dataclass(frozen=True)
class Checked:
    """What the promises came to, when, and at which version of the ledger."""

    checks: list[checks.Check]
    at: datetime
    version: int


@st.cache_data(max_entries=4, show_spinner="Reading the tables …")
def tables(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/tables.sql, with each table's size and what it holds."""
    snapshot = store.snapshot(lake_path(lake.root), {"runs": lake.version})
    versions = {name: table.version() for name, table in snapshot.items()}
    written = ask(ledger_entries(lake), "app/tables", versions=versions)
    sizes = []
    for name, table in snapshot.items():
        about = TABLES[name].about if name in TABLES else "A stage of this lake's own."
        size = upkeep.size(table)
        sizes.append({"table_name": name, "rows": size.rows, "bytes": size.bytes, "files": size.files, "about": about})
    return written.join(pl.DataFrame(sizes), on="table_name", how="left", maintain_order="left")


@st.cache_data(max_entries=16, show_spinner="Reading the history …")
def commits(lake: Lake, name: str) -> pl.DataFrame:
    """The newest commits of a table: version, time and operation by Delta's log, who and what by the ledger."""
    logged = pl.DataFrame(upkeep.history(lake_path(lake.root), name, COMMITS), infer_schema_length=None)
    told = ask(ledger_entries(lake), "app/table_commits", {"table_name": name})
    operation = pl.coalesce(pl.col("operation_right"), pl.col("operation").str.to_lowercase())
    return (
        logged.select("version", "at", "operation")
        .join(told.with_columns(pl.col("version").cast(pl.Int64)), on="version", how="left", maintain_order="left")
        .with_columns(operation=operation)
        .select("version", "at", "operation", "rows", "units", "slides", "run_id", "code_version")
    )


@st.cache_data(max_entries=8, show_spinner="Comparing the versions …")
def changes(lake: Lake, name: str, from_version: int, to_version: int) -> table_diff.Changes:
    """The differences between two versions of a table; raises LakeError for those that are gone."""
    return table_diff.changes(lake_path(lake.root), name, from_version, to_version)


@st.cache_data(max_entries=8, show_spinner="Comparing the annotations …")
def annotation_difference(lake: Lake, from_version: int, to_version: int) -> Difference:
    """The differences between two versions of the annotations, and what followed from them."""
    return annotation_changes(lake_path(lake.root), from_version, to_version)


@st.cache_data(max_entries=4, show_spinner=False)
def ledger_summary(lake: Lake) -> pl.DataFrame:
    """The rows of sql/app/ledger_summary.sql."""
    return ask(ledger_entries(lake), "app/ledger_summary")


@st.cache_data(max_entries=16, show_spinner=False)
def ledger(lake: Lake, stage: str | None, status: str | None, slide: str | None) -> pl.DataFrame:
    """The rows of sql/app/ledger.sql."""
    asked = {"stage": stage, "status": status, "slide": slide, "entries": ENTRIES}
    return ask(ledger_entries(lake), "app/ledger", asked)


@st.cache_resource(show_spinner=False)
def last_checked() -> dict[str, Checked]:
    """What the promises of each lake came to when this app last looked."""
    return {}


def run_checks(lake: Lake, bar: st.delta_generator.DeltaGenerator) -> Checked:
    """Run every promise, telling how far it is on `bar`; the outcome is remembered as long as the app runs."""

    def tell(name: str, done: float) -> None:
        bar.progress(done, text=name.replace("_", " "))

    found = checks.check(lake_path(lake.root), tell)
    last_checked()[lake.root] = Checked(found, datetime.now(UTC), lake.version)
    return last_checked()[lake.root]
