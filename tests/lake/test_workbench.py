"""A person's statement: what may run, what cannot get out, and what ends it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest
from support import ROOT, TestLake

from lake import session, store, workbench, workbench_child
from lake.statement import checked
from lake.workbench import Limits, Result, start
from udfs.errors import QueryError

QUICK = Limits(rows=1_000, bytes=2**20, memory_mb=1_024, seconds=20)
ENDLESS = (
    "select count(*) from range(10000000) a, range(10000000) b, range(10000000) c where a.range + b.range <> c.range"
)

SECRET = "the secret of the machine"
FILE = "$file"  # in a statement: a file outside the lake that holds SECRET
OWN = "$own"  # a Parquet file of the lake
FOLDER = "$folder"  # where files must not be made

ESCAPES = {  # a name, the statement, and words of the sentence that refuses it
    "text": (f"select * from read_text('{FILE}')", "read_text"),
    "blob": (f"select * from read_blob('{FILE}')", "read_blob"),
    "csv": (f"select * from read_csv('{FILE}')", "read_csv"),
    "csv, sniffed": (f"from sniff_csv('{FILE}')", "sniff_csv"),
    "csv, by its catalog": (f"from system.main.read_csv_auto('{FILE}')", "read_csv_auto"),
    "json": (f"from READ_JSON('{FILE}')", "read_json"),
    "parquet": (f"from read_parquet('{FILE}')", "read_parquet"),
    "parquet of the lake": (f"from read_parquet('{OWN}')", "read_parquet"),
    "parquet's metadata": (f"from parquet_metadata('{OWN}')", "parquet_metadata"),
    "a database": (f"from read_duckdb('{FILE}')", "read_duckdb"),
    "glob": ("from glob('/*')", "glob"),
    "a file as a table": (f"select * from '{FILE}'", "no files"),
    "a file of the lake as a table": (f"select * from '{OWN}'", "no files"),
    "a file as catalog, schema and table": (f'from "{FILE}".a.csv', "no files"),
    "an address as a table": ("from 'https://example.org/x.parquet'", "no files"),
    "in a subquery": (f"select (select content from read_text('{FILE}'))", "read_text"),
    "in a CTE": (f"with t as materialized (from read_text('{FILE}')) from t", "read_text"),
    "in a lateral join": (f"from slides, lateral (from read_text('{FILE}'))", "read_text"),
    "in exists": (f"select exists (from read_text('{FILE}'))", "read_text"),
    "in an order": (f"from slides order by (select content from read_text('{FILE}'))", "read_text"),
    "in a set operation": (f"select 'a' union all select content from read_text('{FILE}')", "read_text"),
    "in a pivot": (f"pivot (from read_text('{FILE}')) on size in (1) using count(*)", "read_text"),
    "in values": (f"values ((select content from read_text('{FILE}')))", "read_text"),
    "in summarize": (f"summarize from read_text('{FILE}')", "read_text"),
    "in describe": (f"describe from read_text('{FILE}')", "read_text"),
    "in explain": (f"explain analyze from read_text('{FILE}')", "read_text"),
    "as text that is run": (f"from query('from read_text(''{FILE}'')')", "query"),
    "as a name that is looked up": (f"from query_table('{OWN}')", "query_table"),
    "as JSON that is run": (
        f"from json_execute_serialized_sql(json_serialize_sql('from read_text(''{FILE}'')'))",
        "json_execute_serialized_sql",
    ),
    "copy": (f"copy slides to '{FOLDER}/out.csv'", "COPY"),
    "copy, explained and run": (f"explain analyze copy (select 1) to '{FOLDER}/out.csv'", "EXPLAIN"),
    "copy over the lake, explained and run": (
        f"explain analyze copy (select 1) to '{OWN}' (format parquet)",
        "EXPLAIN",
    ),
    "copy, explained behind a comment": (f"/* a */ explain -- b\nanalyze copy (select 1) to '{FOLDER}/x'", "EXPLAIN"),
    "explain with options": ("explain (analyze, format json) insert into snapshot values ('a', 1)", "syntax error"),
    "insert, explained and run": ("explain analyze insert into snapshot values ('a', 1)", "EXPLAIN"),
    "export": (f"export database '{FOLDER}'", "EXPORT"),
    "import": (f"import database '{FOLDER}'", "disabled by configuration"),
    "attach": (f"attach '{FOLDER}/x.db'", "ATTACH"),
    "install": ("install httpfs", "LOAD"),
    "load": ("load httpfs", "LOAD"),
    "set": ("set enable_external_access = true", "SET"),
    "reset": ("reset lock_configuration", "SET"),
    "set a variable": ("set variable x = 1", "SET"),
    "use": ("use memory", "SET"),
    "pragma": ("pragma database_list", "only SELECT"),
    "pragma that counts as a select": ("pragma table_info('slides')", "only SELECT"),
    "pragma that runs JSON": ("pragma json_execute_serialized_sql('{}')", "Parser Error"),
    "call": ("call enable_logging()", "CALL"),
    "logging": ("from enable_logging()", "enable_logging"),
    "logging to files": (
        f"from enable_logging('QueryLog', storage='file', storage_path='{FOLDER}/log')",
        "enable_logging",
    ),
    "profiling": ("from enable_profiling()", "enable_profiling"),
    "secrets": ("from duckdb_secrets()", "duckdb_secrets"),
    "which secret": ("from which_secret('s3://x', 's3')", "which_secret"),
    "the environment": ("select getenv('PATH')", "getenv"),
    "memory by its address": ("from arrow_scan(1, 2, 3)", "arrow_scan"),
    "memory by another address": ("from pandas_scan(1)", "pandas_scan"),
    "python": ("from python_map_function(1)", "python_map_function"),
    "a variable of python": ("select * from hidden", "hidden"),
    "create": ("create table t as select 1", "CREATE"),
    "create a macro": ("create macro m() as table from read_text('x')", "CREATE"),
    "insert": ("insert into snapshot values ('a', 1)", "INSERT"),
    "insert in a CTE": ("with t as (insert into snapshot values ('a', 1) returning *) from t", "SELECT"),
    "update": ("update snapshot set version = 0", "UPDATE"),
    "delete": ("delete from snapshot", "DELETE"),
    "drop": ("drop view slides", "DROP"),
    "checkpoint": ("checkpoint", "CALL"),
    "prepare": ("prepare p as select 1", "PREPARE"),
    "execute": ("execute p", "EXECUTE"),
    "begin": ("begin", "TRANSACTION"),
    "vacuum": ("vacuum", "VACUUM"),
    "two statements": ("select 1; select 2", "2 statements"),
    "a second behind a comment": ("select 1; /* ; */ drop view slides", "2 statements"),
    "nothing": ("  \n ", "no statement"),
    "only a comment": ("-- select 1", "only a comment"),
    "NUL": ("select 1\0; drop view slides", "NUL"),
    "too long": ("select " + "1," * 60_000 + "1", "characters"),
    "too deep": ("select " + "1 + " * 5_000 + "1", "depth"),
}

SEALED = (  # what the connection itself refuses, should the statement's check have a hole
    f"from read_text('{FILE}')",
    f"from read_csv('{FILE}')",
    f"from '{FILE}'",
    "from glob('/*')",
    f"copy (select 1) to '{FOLDER}/out.csv'",
    f"attach '{FOLDER}/x.db'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set allowed_paths = ['/']",
    "set memory_limit = '1TB'",
    "reset lock_configuration",
    "from duckdb_secrets()",
    "from hidden",
)

HARMLESS = (
    "select count(*) from slides",
    "from slides",
    "with t as (select 1 as a) select a from t",
    "values (1)",
    "describe slides",
    "show tables",
    "summarize slides",
    "table slides",
    "explain select 1",
    "explain analyze select count(*) from current_predictions",
    "select * from range(3), unnest([1, 2])",
    "select current_setting('threads')",
    "pivot slides on split in ('train', 'test') using count(*) group by label",
    "select bucket_of(slide_id) from slides; -- done",
    "from snapshot",
    "from information_schema.tables",
    "select 'read_text(''/etc/passwd'')'",
)


def run(root: Path, statement: str, limits: Limits, *, at: Mapping[str, int] | None = None) -> Result:
    """The answer to a statement, waited for."""
    return start(root, statement, limits, at=at).result()


@pytest.fixture(scope="module")
def root(finished: tuple[Path, Path]) -> Path:
    """The lake after the whole workflow, only read here."""
    return finished[1] / "lake"


@pytest.fixture(scope="module")
def sealed(root: Path) -> Iterator[session.Connection]:
    """A connection as the child seals it, in this process."""
    with session.connect(root, udfs=()) as con:
        workbench_child.seal(con, QUICK)
        yield con


@pytest.fixture
def filled(root: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What stands for $file, $own and $folder; nothing may come of it."""
    file, folder = tmp_path / "secret.csv", tmp_path / "folder"
    file.write_text(f"a\n{SECRET}\n")
    folder.mkdir()
    own = store.open_table(root, "slides").file_uris()[0]
    before = Path(own).read_bytes()
    yield {FILE: str(file), OWN: own, FOLDER: str(folder)}
    assert not list(folder.iterdir())
    assert Path(own).read_bytes() == before


def fill(statement: str, filled: dict[str, str]) -> str:
    for name, value in filled.items():
        statement = statement.replace(name, value)
    return statement


@pytest.mark.parametrize("name", ESCAPES)
def test_no_statement_gets_out(
    sealed: session.Connection, filled: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # DuckDB takes names of variables for tables where the statement is executed
    monkeypatch.setattr(workbench_child, "hidden", pl.DataFrame({"a": [SECRET]}), raising=False)
    statement, words = ESCAPES[name]
    with pytest.raises(QueryError) as refused:
        workbench_child.answer(sealed, fill(statement, filled), QUICK)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("statement", SEALED)
def test_the_connection_is_sealed_beneath_the_check(
    sealed: session.Connection, filled: dict[str, str], statement: str
) -> None:
    hidden = pl.DataFrame({"a": [SECRET]})
    assert duckdb.execute("from hidden").fetchall() == hidden.rows()  # by a connection that is not sealed
    with pytest.raises(duckdb.Error):
        sealed.execute(fill(statement, filled)).fetchall()


@pytest.mark.parametrize("statement", HARMLESS)
def test_what_only_reads_the_lake_runs(sealed: session.Connection, statement: str) -> None:
    header, body = workbench_child.answer(sealed, statement, QUICK)
    assert pl.read_ipc_stream(body).width == len(header["types"]) > 0


def test_every_function_behind_from_is_known(sealed: session.Connection) -> None:
    """Of DuckDB's table functions those that may be used are named: a new one of a later DuckDB is refused."""
    functions = sealed.execute("select distinct function_name from duckdb_functions() where function_type = 'table'")
    names = [name for (name,) in functions.fetchall()]
    refused = 0
    for name in names:
        try:
            checked(sealed, f'from "{name}"()')
        except QueryError:
            refused += 1
    assert len(names) - refused < 30 < refused


def test_the_answer_is_that_of_the_lake_with_its_versions(root: Path) -> None:
    result = run(root, "select slide_id, count(*) as patches from current_predictions group by all order by 1", QUICK)
    with session.connect(root, udfs=()) as con:
        expected = con.execute("select slide_id, count(*) from current_predictions group by all order by 1").fetchall()
        assert result.versions == session.versions(con)
    assert result.frame.rows() == expected
    assert result.types == ("VARCHAR", "BIGINT")
    assert result.cut is None


def test_an_older_ledger_shows_the_lake_as_it_was(root: Path) -> None:
    newest = run(root, "select count(*) from runs", QUICK)
    older = run(root, "select count(*) from runs", QUICK, at={"runs": 2})
    assert older.versions["runs"] == 2
    assert older.versions["predictions"] == 0 < newest.versions["predictions"]
    assert older.frame.item() < newest.frame.item()


def test_a_version_that_never_was_is_a_sentence(root: Path) -> None:
    with pytest.raises(QueryError, match="runs at version 9999: cannot be opened"):
        run(root, "select 1", QUICK, at={"runs": 9999})


def test_a_waiting_process_sees_what_was_written_since(own_lake: TestLake) -> None:
    workbench.warm(own_lake.root)
    workbench.warm(own_lake.root)  # one is enough
    deadline = time.monotonic() + 30
    spare = workbench._spare
    assert spare is not None
    while "duckdb" not in Path(f"/proc/{spare[1].pid}/maps").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    store.put(own_lake.root, "settings", [{"name": "told", "value": "since"}], "a test")
    result = run(own_lake.root, "select value from settings where name = 'told'", QUICK)
    assert result.frame.item() == "since"
    assert spare[1].poll() is not None
    assert workbench._spare is None


def test_a_hundred_million_rows_are_cut_and_the_parent_stays_small(root: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = run(root, "select * from range(100000000)", QUICK)
    assert result.frame["range"].to_list() == list(range(QUICK.rows))
    assert result.cut == "rows"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_exactly_as_many_rows_as_allowed_are_not_cut(sealed: session.Connection) -> None:
    header, _ = workbench_child.answer(sealed, f"from range({QUICK.rows})", QUICK)
    assert header["cut"] is None


def test_wide_rows_are_cut_by_their_bytes(sealed: session.Connection) -> None:
    header, body = workbench_child.answer(sealed, "select repeat('x', 100000) as x from range(500)", QUICK)
    frame = pl.read_ipc_stream(body)
    assert header["cut"] == "bytes"
    assert 0 < frame.height <= 10
    assert len(body) < 2 * QUICK.bytes


def test_one_row_beyond_the_bytes_is_a_sentence(sealed: session.Connection) -> None:
    with pytest.raises(QueryError, match="a single row is larger than 1 MB"):
        workbench_child.answer(sealed, "select repeat('x', 3000000)", QUICK)


@pytest.mark.parametrize(
    "statement",
    [
        "select length(string_agg(repeat('x', 1000000), '')) from range(4000)",
        "select repeat('x', 900000000) || repeat('y', 900000000)",
    ],
    ids=["many strings", "one string"],
)
def test_what_outgrows_its_memory_is_a_sentence(root: Path, statement: str) -> None:
    with pytest.raises(QueryError, match=r"memory"):
        run(root, statement, replace(QUICK, memory_mb=512))


def test_a_statement_that_never_ends_is_ended(root: Path) -> None:
    running = start(root, ENDLESS, replace(QUICK, seconds=1))
    with pytest.raises(QueryError, match="stopped after 1 s"):
        running.result()
    assert running.is_done


def test_cancel_ends_a_statement_at_once_and_another_runs_on(root: Path) -> None:
    unhurried = replace(QUICK, seconds=3_600)
    endless, other = start(root, ENDLESS, unhurried), start(root, "select 42 as answer", QUICK)
    assert other.result().frame.item() == 42
    assert not endless.is_done
    endless.cancel()
    with pytest.raises(QueryError, match="cancelled"):
        endless.result()
    endless.cancel()
    other.cancel()
    assert other.result().frame.item() == 42
    assert not alive(endless._process.pid)


def test_a_statement_can_be_cancelled_before_it_has_begun(root: Path) -> None:
    running = start(root, "select 1", QUICK)
    running.cancel()
    with pytest.raises(QueryError, match="cancelled"):
        running.result()


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_ended_by_hand_is_a_sentence(root: Path, signal_: signal.Signals) -> None:
    running = start(root, ENDLESS, QUICK)
    os.kill(running._process.pid, signal_)
    with pytest.raises(QueryError, match=signal_.name):
        running.result()


def test_only_so_many_statements_run_at_once(root: Path) -> None:
    running = [start(root, ENDLESS, QUICK) for _ in range(workbench.AT_ONCE)]
    try:
        with pytest.raises(QueryError, match="running already"):
            start(root, "select 1", QUICK)
    finally:
        for one in running:
            one.cancel()
    for one in running:
        with pytest.raises(QueryError):
            one.result()
    assert run(root, "select 1 as one", QUICK).frame.item() == 1


def test_the_process_has_no_credentials_and_writes_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    running = start(root, ENDLESS, QUICK)
    process = Path(f"/proc/{running._process.pid}")
    try:
        deadline = time.monotonic() + 60
        limits: dict[str, str] = {}
        while limits.get("Max file size") != "0" and time.monotonic() < deadline:
            lines = (process / "limits").read_text().splitlines()[1:]
            limits = {line[:25].strip(): line[25:].split()[0] for line in lines}
            time.sleep(0.05)
        environment = (process / "environ").read_bytes()
    finally:
        running.cancel()
    assert SECRET.encode() not in environment
    assert b"AWS_" not in environment
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    assert limits["Max address space"].isdecimal()
    assert limits["Max cpu time"].isdecimal()
    assert int(limits["Max open files"]) <= workbench_child.FILES


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_app(root: Path, ending: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lake import workbench;"
        "running = workbench.start(Path(sys.argv[1]), sys.argv[2]); workbench.warm(Path(sys.argv[1]));"
        "print(running._process.pid, workbench._spare[1].pid, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(root), ENDLESS]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as app:
        assert app.stdout is not None
        children = [int(word) for word in app.stdout.readline().split()]
        assert all(alive(child) for child in children)
        app.send_signal(ending)
        app.wait(30)
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(child) for child in children)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_is_one_line_that_names_the_place(sealed: session.Connection) -> None:
    with pytest.raises(QueryError) as error:
        workbench_child.answer(sealed, "select\n  slide_id,\n  nothing_like_it\nfrom slides", QUICK)
    assert str(error.value).endswith("(line 3: nothing_like_it)")
    assert "\n" not in str(error.value)
    with pytest.raises(QueryError, match='Did you mean "slides"') as error:
        workbench_child.answer(sealed, "from slidez", QUICK)
    with pytest.raises(QueryError) as error:
        workbench_child.answer(sealed, "select error(repeat('long ', 100000))", QUICK)
    assert len(str(error.value)) < 2_000


def test_an_error_in_a_late_row_is_the_same_sentence(sealed: session.Connection) -> None:
    with pytest.raises(QueryError, match=r"Conversion Error: .*'late'"):
        workbench_child.answer(
            sealed,
            "select case when range < 5000 then '1' else 'late' end::int from range(9000)",
            replace(QUICK, rows=9000),
        )


def test_every_type_comes_through(sealed: session.Connection) -> None:
    header, body = workbench_child.answer(sealed, "from test_all_types()", QUICK)
    frame = pl.read_ipc_stream(body)
    assert frame.shape == (3, len(header["types"]))
    assert frame["uhugeint"].to_list() == ["0", str(2**128 - 1), None]
    assert frame["bigint"].to_list() == [-(2**63), 2**63 - 1, None]
    assert frame["bit"][0] == "0010001001011100010101011010111"
    assert frame["struct"].to_list()[1] == {"a": 42, "b": "🦆🦆🦆🦆🦆🦆"}
    assert frame["blob"].dtype == pl.Binary
    assert all(series[2] is None for series in frame if not series.dtype.is_nested())


def test_names_that_are_there_twice_are_numbered(sealed: session.Connection) -> None:
    statement = "select 1 as a, interval 1 day as a, 3 as a_2, sum(range) as total from range(4)"
    header, body = workbench_child.answer(sealed, statement, QUICK)
    frame = pl.read_ipc_stream(body)
    assert frame.columns == ["a", "a_2", "a_2_2", "total"]
    assert frame.rows() == [(1, "1 day", 3, 6)]
    assert header["types"] == ["INTEGER", "INTERVAL", "INTEGER", "HUGEINT"]


def test_no_rows_have_their_columns_and_types(sealed: session.Connection) -> None:
    _, body = workbench_child.answer(sealed, "select slide_id, width from slides where false", QUICK)
    assert pl.read_ipc_stream(body).schema == {"slide_id": pl.String, "width": pl.Int64}
    with pytest.raises(QueryError, match="empty set of columns"):
        workbench_child.answer(sealed, "select columns(c -> false) from slides", QUICK)


def test_a_result_of_very_many_columns_is_a_sentence(sealed: session.Connection) -> None:
    with pytest.raises(QueryError, match="the result has 2,000 columns"):
        workbench_child.answer(sealed, f"select {', '.join(['1'] * 2_000)}", QUICK)


def test_text_that_is_no_unicode_is_a_sentence(sealed: session.Connection) -> None:
    for statement in ("select '\ud800'", "explain select '\ud800'"):
        with pytest.raises(QueryError):
            workbench_child.answer(sealed, statement, QUICK)


def test_no_lake_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="no lake here"):
        run(tmp_path / "nowhere", "select 1", QUICK)
