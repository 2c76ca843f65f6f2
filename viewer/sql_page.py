"""The parts of the SQL page: the editor, the statement while it runs, and its answer."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import polars as pl
import streamlit as st

from lake import sql_files, workbench
from lake.audit import Action, Deed
from lake.choices import lake_path
from lake.csv_text import as_csv
from lake.statement import LONGEST
from udfs.errors import LakeError, QueryError
from viewer.audited import record, recorded_download
from viewer.gate import guarded
from viewer.reading import Lake, Row, version_number
from viewer.sql_chart import show_chart
from viewer.table import height
from viewer.text import escaped

LIMITS = workbench.Limits()
LONGEST_LINK = 2_000  # characters of a statement in the page's address
EXAMPLES = sql_files.SQL / "app" / "examples"
FIRST_EXAMPLE = "hottest_patches"
AT_ONCE_S = 0.6  # an answer that comes within is shown without saying first that it is awaited
POLL_S = 0.4
TABLE_PX = 560
SHOWN_BYTES = 24  # of a BLOB in a cell

STATEMENT, VERSION, LINKED, RUNNING = "statement", "ledger_version", "linked statement", "running statement"
RECORDED = "recorded answer"  # of the session: the statement whose outcome is in the audit table
_EDITOR_STYLE = "<style>.st-key-statement textarea { font-family: monospace; font-size: 0.9rem; }</style>"


def examples() -> dict[str, str]:
    """The example statements: what each is, in a sentence, and its text."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.sql"))]
    return {(about := sql_files.about(text))[:1].upper() + about[1:]: text for text in texts}


def show_editor(lake: Lake) -> None:
    """Show the statement to write, and start it when the person says so."""
    _take_statement()
    st.selectbox(
        "Examples",
        list(examples()),
        index=None,
        key="example",
        on_change=_take_example,
        placeholder="Choose an example",
    )
    st.html(_EDITOR_STYLE)
    with st.form("ask", border=False):
        st.text_area("Statement", key=STATEMENT, height=300, max_chars=LONGEST, persist_state="session")
        for_run, for_version, for_limits = st.columns([1, 1.4, 4], vertical_alignment="bottom")
        is_asked = for_run.form_submit_button("Run", type="primary", help="Ctrl+Enter", width="stretch")
        for_version.number_input(
            "Ledger version",
            min_value=0,
            max_value=lake.version,
            value=None,
            key=VERSION,
            persist_state="session",
            placeholder=f"newest, {lake.version}",
            help="The whole lake as it was at that version of the table `runs`",
        )
        for_limits.caption(_limits(LIMITS))
    if is_asked:
        _start(lake)


def show_answer(lake: Lake) -> None:
    """Show the statement that runs, with a way to cancel it, or its answer."""
    running: workbench.Running | None = st.session_state.get(RUNNING)
    if running is not None:
        running.wait(AT_ONCE_S)
        if not running.is_done:
            _watch()
            return
        _show_outcome(lake, running)
    with suppress(OSError, LakeError):  # the next statement says why
        workbench.warm(lake_path(lake.root))


def _show_outcome(lake: Lake, running: workbench.Running) -> None:
    try:
        result = running.result()
    except QueryError as error:
        _record_once(lake, running, {"outcome": str(error)}, None)
        _show_error(error)
    else:
        told = {"outcome": "answered", "rows": result.frame.height, "cut": result.cut}
        _record_once(lake, running, told, result.versions)
        _show_result(lake, running.statement, result)


def _record_once(lake: Lake, running: workbench.Running, told: Row, versions: dict[str, int] | None) -> None:
    """Record what became of a statement, before the person sees it for the first time."""
    if st.session_state.get(RECORDED) is not running:
        record(lake, Deed(Action.answered, object=running.statement, versions=versions, details=told))
        st.session_state[RECORDED] = running


def _limits(limits: workbench.Limits) -> str:
    return (
        f"Read-only, one statement. At most {limits.rows:,} rows, {limits.bytes // 2**20} MB of them, "
        f"{limits.memory_mb / 1024:g} GB of memory and {limits.seconds:g} s. "
        "histolake's own functions (`embed`, `crop` …) read pixels and do not run here; `histolake sql` runs them."
    )


def _take_statement() -> None:
    """Fill the editor from the page's address when that is new, else with what was there, else with an example."""
    linked = st.query_params.get("q")
    if linked is not None and linked != st.session_state.get(LINKED):
        st.session_state[LINKED] = st.session_state[STATEMENT] = linked
        st.session_state[VERSION] = version_number(st.query_params.get("version", ""))
    if STATEMENT not in st.session_state:
        st.session_state[STATEMENT] = (EXAMPLES / f"{FIRST_EXAMPLE}.sql").read_text(encoding="utf-8")


def _take_example() -> None:
    chosen = st.session_state.get("example")
    if chosen:
        st.session_state[STATEMENT] = examples()[chosen]


def _start(lake: Lake) -> None:
    """Run what the editor holds instead of what ran before, and put it into the page's address."""
    before: workbench.Running | None = st.session_state.pop(RUNNING, None)
    if before is not None:
        before.cancel()
    statement, version = st.session_state[STATEMENT] or "", st.session_state[VERSION]
    st.query_params.clear()
    if len(statement) <= LONGEST_LINK:
        st.session_state[LINKED] = st.query_params["q"] = statement
        if version is not None:
            st.query_params["version"] = str(version)
    try:
        at = {} if version is None else {"runs": version}
        record(lake, Deed(Action.queried, object=statement, versions=at or None))
        st.session_state[RUNNING] = workbench.start(lake_path(lake.root), statement, LIMITS, at=at)
    except QueryError as error:
        _show_error(error)


@st.fragment(run_every=POLL_S)
@guarded
def _watch() -> None:
    """Say how long the statement has been running, offer to cancel it, and show its answer when it has come."""
    running: workbench.Running = st.session_state[RUNNING]
    if running.is_done:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Cancel", on_click=running.cancel, icon=":material/stop:")
        st.caption(f"Running for {running.seconds:.0f} s; it is stopped after {LIMITS.seconds:g} s.")
    st.progress(min(running.seconds / LIMITS.seconds, 1.0))


def _show_error(error: QueryError) -> None:
    text = str(error)
    st.error(escaped(text[:1].upper() + text[1:]))


def _show_result(lake: Lake, statement: str, result: workbench.Result) -> None:
    frame = result.frame
    st.caption(f"{_count(frame.height, 'row')}, {_count(frame.width, 'column')}, {result.seconds:.2f} s.")
    if result.cut == "rows":
        st.warning(f"Cut: the first {frame.height:,} of more rows. Aggregate, filter or order to see what matters.")
    elif result.cut == "bytes":
        size = f"{LIMITS.bytes // 2**20} MB"
        st.warning(f"Cut: the first {frame.height:,} of more rows, which fill the {size} allowed: select less.")
    if frame.columns == ["explain_key", "explain_value"]:
        for plan in frame["explain_value"]:
            st.code(plan, language=None)
    else:
        table, drawing = st.tabs(["Table", "Chart"])
        with table:
            _show_table(lake, statement, result)
        with drawing:
            show_chart(frame)
    st.caption(
        "Table versions: " + escaped(", ".join(f"{name} {version}" for name, version in result.versions.items()))
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _show_table(lake: Lake, statement: str, result: workbench.Result) -> None:
    config: Any = {
        name: st.column_config.Column(help=type_)
        for name, type_ in zip(result.frame.columns, result.types, strict=True)
    }
    st.dataframe(
        shown(result.frame),
        hide_index=True,
        column_config=config,
        height=min(height(max(result.frame.height, 1)), TABLE_PX),
        placeholder="",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        frame = result.frame
        details = {"rows": frame.height, "statement": statement, "versions": result.versions}
        csv = recorded_download(lake, "result.csv", details, lambda: as_csv(frame).encode())
        parquet = recorded_download(lake, "result.parquet", details, lambda: as_parquet(frame))
        st.download_button("Rows as CSV", csv, "result.csv", "text/csv", on_click="ignore")
        st.download_button(
            "Rows as Parquet",
            parquet,
            "result.parquet",
            "application/vnd.apache.parquet",
            on_click="ignore",
        )
        st.caption("Downloads hold exactly the rows above.")


def shown(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows as a table can show them: of a BLOB its size and first bytes."""
    return frame.with_columns(
        pl.format("{} bytes: {}", pl.col(name).bin.size(), pl.col(name).bin.slice(0, SHOWN_BYTES).bin.encode("hex"))
        for name, type_ in frame.schema.items()
        if type_ == pl.Binary
    )


def as_parquet(frame: pl.DataFrame) -> bytes:
    """The rows as a Parquet file."""
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()
