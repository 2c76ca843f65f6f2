"""A person's statement: what may run, what cannot get out, and what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import psutil
import pytest
from escapes import AUDIT, ESCAPES, EXHAUSTING, FILE, FOLDER, OWN, SEALED
from support import ROOT, TestLake, all_end, until

from lake import session, store, workbench, workbench_child
from lake.statement import checked
from lake.workbench import Limits, Result, start
from udfs.errors import QueryError

QUICK = Limits(rows=1_000, bytes=2**20, memory_mb=1_024, seconds=20)
ENDLESS = EXHAUSTING["cross joins and sorts"]["a cross join"]

SECRET = "the secret of the machine"
LITTLE = 100_000_000  # bytes by which the app may grow over a statement

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


@contextmanager
def growth() -> Iterator[list[int]]:
    """By how many bytes this process has grown, again and again while the block runs."""
    process, over = psutil.Process(), threading.Event()
    before, grown = process.memory_info().rss, [0]

    def watch() -> None:
        while not over.wait(0.005):
            grown.append(process.memory_info().rss - before)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield grown
    finally:
        over.set()
        all_end([watching])


def outcome(running: workbench.Running) -> Result | str:
    """The answer, or the sentence in its place."""
    try:
        return running.result()
    except QueryError as error:
        return str(error)


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


@pytest.fixture(scope="module")
def files(root: Path) -> tuple[str, str, bytes]:
    """A file of the table slides, one of audit, and what the first has in it."""
    own, account = (store.open_table(root, name).file_uris()[0] for name in ("slides", "audit"))
    return own, account, Path(own).read_bytes()


@pytest.fixture
def filled(files: tuple[str, str, bytes], tmp_path: Path) -> Iterator[dict[str, str]]:
    """What stands for $file, $own, $audit and $folder; nothing may come of it."""
    file, folder = tmp_path / "secret.csv", tmp_path / "folder"
    file.write_text(f"a\n{SECRET}\n")
    folder.mkdir()
    own, account, before = files
    yield {FILE: str(file), OWN: own, AUDIT: account, FOLDER: str(folder)}
    assert not list(folder.iterdir())
    assert Path(own).read_bytes() == before


def fill(statement: str, filled: dict[str, str]) -> str:
    for name, value in filled.items():
        statement = statement.replace(name, value)
    return statement


@pytest.mark.parametrize(
    ("category", "name"), [(category, name) for category, escapes in ESCAPES.items() for name in escapes]
)
def test_no_statement_gets_out(
    sealed: session.Connection, filled: dict[str, str], monkeypatch: pytest.MonkeyPatch, category: str, name: str
) -> None:
    # DuckDB takes names of variables for tables where the statement is executed
    monkeypatch.setattr(workbench_child, "hidden", pl.DataFrame({"a": [SECRET]}), raising=False)
    statement, words = ESCAPES[category][name]
    with pytest.raises(QueryError) as refused:
        workbench_child.answer(sealed, fill(statement, filled), QUICK)
    assert words in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sealed.execute("select current_setting('enable_external_access')").fetchall() == [(False,)]
    assert sealed.execute("select count(*) from slides").fetchall() == [(6,)]


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
    with session.connect(root, udfs=()) as con:
        newest, [(entries,)] = session.versions(con), con.execute("select count(*) from runs").fetchall()
    older = run(root, "select count(*) from runs", QUICK, at={"runs": 2})
    assert older.versions["runs"] == 2
    assert older.versions["predictions"] == 0 < newest["predictions"]
    assert older.frame.item() < entries


def test_a_version_that_never_was_is_a_sentence(root: Path) -> None:
    with pytest.raises(QueryError, match="runs at version 9999: there is none yet"):
        run(root, "select 1", QUICK, at={"runs": 9999})


def test_a_waiting_process_sees_what_was_written_since(own_lake: TestLake) -> None:
    workbench.warm(own_lake.root)
    workbench.warm(own_lake.root)  # one is enough
    spare = workbench._spare
    assert spare is not None
    until(lambda: "duckdb" in Path(f"/proc/{spare[1].pid}/maps").read_text(), "it has loaded DuckDB")
    store.put(own_lake.root, "settings", [{"name": "told", "value": "since"}], "a test")
    result = run(own_lake.root, "select value from settings where name = 'told'", QUICK)
    assert result.frame.item() == "since"
    assert spare[1].poll() is not None
    assert workbench._spare is None


def test_a_hundred_million_rows_are_cut_and_the_parent_stays_small(root: Path) -> None:
    with growth() as grown:
        result = run(root, "select * from range(100000000)", QUICK)
    assert result.frame["range"].to_list() == list(range(QUICK.rows))
    assert result.cut == "rows"
    assert max(grown) < LITTLE


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


@pytest.mark.parametrize("name", ["many strings", pytest.param("one string", marks=pytest.mark.slow)])
def test_what_outgrows_its_memory_is_a_sentence(root: Path, name: str) -> None:
    with pytest.raises(QueryError, match=r"memory"):
        run(root, EXHAUSTING["giant strings and lists"][name], replace(QUICK, memory_mb=512))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("category", "name"), [(category, name) for category, statements in EXHAUSTING.items() for name in statements]
)
def test_what_would_exhaust_the_machine_ends_within_its_limits(root: Path, category: str, name: str) -> None:
    """It ends by an answer or by a sentence, its process goes with it, and the next statement is answered."""
    limits = Limits(rows=1_000, bytes=2**20, memory_mb=512, seconds=2)
    with growth() as grown:
        running = start(root, EXHAUSTING[category][name], limits)
        running.wait(workbench.START_S + limits.seconds + workbench.GRACE_S)
    assert running.is_done
    assert max(grown) < LITTLE
    ended = outcome(running)
    if isinstance(ended, str):
        assert 0 < len(ended) < 2_000
        assert "\n" not in ended
    else:
        assert ended.frame.height <= limits.rows
    assert not alive(running._process.pid)
    assert workbench._places._value == workbench.AT_ONCE  # its place is free again
    if name == list(EXHAUSTING[category])[-1]:  # once a category: a process takes a second to start
        assert run(root, "select 42 as answer", QUICK).frame.item() == 42


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


@pytest.mark.slow
def test_statements_cancelled_at_any_moment_leave_nothing_behind(root: Path) -> None:
    """Before the process has begun, while it opens the lake, while it computes, and when it has answered."""
    processes = []
    for number in range(12):
        statement = ENDLESS if number % 2 else f"select {number} as answer"
        running = start(root, statement, QUICK)
        processes.append(running._process)
        threads = [threading.Thread(target=running.cancel, daemon=True) for _ in range(3)]
        time.sleep(number / 6)
        for thread in threads:
            thread.start()
        all_end(threads)
        ended = outcome(running)
        if isinstance(ended, str):
            assert "cancelled" in ended
        else:
            assert statement != ENDLESS
            assert ended.frame.item() == number
    assert not any(alive(process.pid) for process in processes)
    running = [start(root, f"select {number} as answer", QUICK) for number in range(workbench.AT_ONCE)]
    assert [each.result().frame.item() for each in running] == list(range(workbench.AT_ONCE))  # every place is free


@pytest.mark.slow
def test_nobody_gets_another_s_answer(root: Path) -> None:
    """Many persons ask at once, some cancel, and each process answers once."""
    told: dict[int, Result | str] = {}
    places = threading.Semaphore(workbench.AT_ONCE)

    def ask(person: int) -> None:
        with places:
            running = start(root, f"select {person} as answer, count(*) from slides", QUICK)
            workbench.warm(root)
            if person % 5 == 0:
                running.cancel()
            told[person] = outcome(running)

    threads = [threading.Thread(target=ask, args=(person,), daemon=True) for person in range(20)]
    for thread in threads:
        thread.start()
    all_end(threads)
    assert len(told) == 20
    for person, answer in told.items():
        if isinstance(answer, str):
            assert answer == "the statement was cancelled"
            assert person % 5 == 0
        else:
            assert answer.frame["answer"].item() == person


def test_a_view_of_the_lake_s_own_gets_no_further(own_lake: TestLake, tmp_path: Path) -> None:
    """Who may write to the lake's folder may write such a view; who may only ask does not get out by it."""
    secret = tmp_path / "secret.csv"
    secret.write_text(f"a\n{SECRET}\n")
    views = own_lake.root / "sql" / "views"
    views.mkdir(parents=True)
    leaks = {
        "leak_text": f"select content as a from read_text('{secret}')",
        "leak_csv": f"select a from read_csv('{secret}')",
        "leak_glob": "select file as a from glob('/*')",
        "leak_account": f"select subject as a from read_parquet('{own_lake.root}/audit/*.parquet')",
    }
    for name, text in leaks.items():
        (views / f"{name}.sql").write_text(f"-- {name}: what it should not.\n\n{text}\n")
    with session.connect(own_lake.root, udfs=()) as con:
        assert SECRET in str(con.execute("from leak_text").fetchall())  # by a connection that is not sealed
        workbench_child.seal(con, QUICK)
        for name in leaks:
            with pytest.raises(QueryError, match="disabled by configuration"):
                workbench_child.answer(con, f"from {name}", QUICK)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)])
def test_a_process_that_is_ended_by_hand_is_a_sentence(root: Path, signal_: signal.Signals) -> None:
    running = start(root, ENDLESS, QUICK)
    os.kill(running._process.pid, signal_)
    with pytest.raises(QueryError, match=signal_.name):
        running.result()


def test_only_so_many_statements_run_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at once here, for each takes a process."""
    assert workbench._places._value == workbench.AT_ONCE
    monkeypatch.setattr(workbench, "_places", threading.BoundedSemaphore(1))
    running = start(root, ENDLESS, QUICK)
    try:
        with pytest.raises(QueryError, match="running already"):
            start(root, "select 1", QUICK)
    finally:
        running.cancel()
    with pytest.raises(QueryError):
        running.result()
    assert run(root, "select 1 as one", QUICK).frame.item() == 1


def test_the_process_has_no_credentials_and_writes_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    running = start(root, ENDLESS, QUICK)
    process = Path(f"/proc/{running._process.pid}")
    try:
        until(lambda: limits_of(process)["Max file size"] == "0", "it has shut itself in")
        limits = limits_of(process)
        environment = (process / "environ").read_bytes()
    finally:
        running.cancel()
    assert SECRET.encode() not in environment
    assert b"AWS_" not in environment
    assert limits["Max file size"] == limits["Max core file size"] == "0"
    assert limits["Max address space"].isdecimal()
    assert limits["Max cpu time"].isdecimal()
    assert int(limits["Max open files"]) <= workbench_child.FILES


def limits_of(process: Path) -> dict[str, str]:
    lines = (process / "limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[25:].split()[0] for line in lines}


@pytest.mark.parametrize("ending", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_no_process_outlives_the_app(root: Path, tmp_path: Path, ending: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lake import workbench;"
        "running = workbench.start(Path(sys.argv[1]), sys.argv[2]); workbench.warm(Path(sys.argv[1]));"
        "print(running._process.pid, workbench._spare[1].pid, flush=True); time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(root), ENDLESS]
    with (
        (tmp_path / "said").open("w+") as said,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True) as app,
    ):
        try:
            assert app.stdout is not None
            children = [int(word) for word in app.stdout.readline().split()]
            assert len(children) == 2, (tmp_path / "said").read_text()
            assert all(alive(child) for child in children)
            app.send_signal(ending)
            app.wait(60)
        finally:
            app.kill()
    until(lambda: not any(alive(child) for child in children), "both have ended")


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
