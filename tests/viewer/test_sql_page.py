"""The SQL page, run by Streamlit's own tester on a real lake, and its parts."""

from __future__ import annotations

import io
from pathlib import Path

import altair as alt
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest
from support import TestLake
from viewer_support import Open, words

from lake import session, workbench
from lake.csv_text import as_csv
from lake.tables import TABLES
from viewer import reading, sql_page
from viewer.sql_catalog import found
from viewer.sql_chart import POINTS, chart, drawable

pytestmark = pytest.mark.slow

ENDLESS = (
    "select count(*) from range(10000000) a, range(10000000) b, range(10000000) c where a.range + b.range <> c.range"
)


def ask(app: AppTest, statement: str) -> AppTest:
    """Write the statement, press Run and wait for the answer."""
    app.text_area(key=sql_page.STATEMENT).set_value(statement)
    press(app, "Run")
    if sql_page.RUNNING in app.session_state:
        app.session_state[sql_page.RUNNING].wait(90)
        app.run()
    assert not app.exception, app.exception[0].stack_trace
    return app


def press(app: AppTest, label: str) -> AppTest:
    [button] = [button for button in app.button if button.label == label]
    return button.click().run()


def test_an_answer_is_a_table_with_its_versions_and_a_link(open_page: Open, full_lake: TestLake) -> None:
    app = ask(open_page(full_lake.root, "sql"), "select slide_id, count(*) as n from predictions group by 1 order by 1")
    [table] = app.dataframe
    expected = full_lake.read("predictions").group_by("slide_id").len("n").sort("slide_id")
    assert pl.from_pandas(table.value).rows() == expected.rows()
    text = words(app)
    assert f"{expected.height} rows, 2 columns" in text
    assert f"predictions {full_lake.versions()['predictions']}" in text
    assert app.query_params["q"] == "select slide_id, count(*) as n from predictions group by 1 order by 1"
    assert not app.error
    assert not app.warning
    assert len(app.get("download_button")) == 2
    assert len(app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart")) == 1


def test_the_limits_are_shown_before_anything_is_asked(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql")
    text = words(app)
    assert "10,000 rows" in text
    assert "30 s" in text
    assert "GB of memory" in text
    assert "current_predictions" in app.text_area(key=sql_page.STATEMENT).value
    assert not app.dataframe


def test_a_link_fills_the_editor_and_runs_nothing(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql", q="select 'from a link'", version="3")
    assert app.text_area(key=sql_page.STATEMENT).value == "select 'from a link'"
    assert app.number_input(key=sql_page.VERSION).value == 3
    assert sql_page.RUNNING not in app.session_state
    ask(app, "select 'my own'")
    assert app.text_area(key=sql_page.STATEMENT).value == "select 'my own'"


def test_a_version_in_a_link_that_is_none_is_left_out(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql")
    for number, version in enumerate(["999999", "x", "-1", "²", "9" * 5_000, ""]):
        app.query_params["q"], app.query_params["version"] = f"select {number}", version
        app.run()
        assert not app.exception
        assert app.number_input(key=sql_page.VERSION).value is None, version


def test_a_long_statement_is_in_no_link(open_page: Open, full_lake: TestLake) -> None:
    app = ask(open_page(full_lake.root, "sql", q="select 1"), "select 1 -- " + "x" * 2_000)
    assert "q" not in app.query_params
    assert app.dataframe


def test_an_older_ledger_version_is_asked(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql", q="from snapshot", version="2")
    app = ask(app, "select count(*) as n from predictions")
    assert app.dataframe[0].value["n"].to_list() == [0]
    assert "runs 2" in words(app)
    assert app.query_params["version"] == "2"


def test_what_is_refused_or_wrong_is_a_sentence(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql")
    for statement, sentence in {
        "drop view slides": "One statement is run, and only SELECT",
        "select nothing_like_it\nfrom slides": "(line 1: select nothing_like_it)",
    }.items():
        [error] = ask(app, statement).error
        assert sentence in error.value.replace("\\", "")
        assert not app.dataframe


def test_a_new_statement_takes_the_place_of_a_running_one_and_cancel_ends_it(
    open_page: Open, full_lake: TestLake
) -> None:
    app = open_page(full_lake.root, "sql")
    app.text_area(key=sql_page.STATEMENT).set_value(ENDLESS)
    press(app, "Run")
    assert "Running for" in words(app)
    assert not app.dataframe
    first = app.session_state[sql_page.RUNNING]
    press(app, "Run")
    first.wait(30)
    assert first.is_done
    press(app, "Cancel")
    app.session_state[sql_page.RUNNING].wait(30)
    app.run()
    assert "The statement was cancelled" in app.error[0].value
    assert ask(app, "select 42 as answer").dataframe[0].value["answer"].to_list() == [42]


def test_a_cut_answer_says_so(open_page: Open, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_page(full_lake.root, "sql")
    for statement, limits, sentence in (
        ("select * from range(100000000)", workbench.Limits(rows=1_000), "the first 1,000 of more rows"),
        ("select repeat('x', 9999) from range(999)", workbench.Limits(bytes=2**20), "fill the 1 MB allowed"),
    ):
        monkeypatch.setattr(sql_page, "LIMITS", limits)
        ask(app, statement)
        assert sentence in app.warning[0].value
        assert 0 < len(app.dataframe[0].value) <= 1_000


def test_answers_of_every_kind_are_shown(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql")
    assert len(ask(app, "from test_all_types()").dataframe[0].value) == 3
    app = ask(app, "select slide_id, width from slides where false")
    assert app.dataframe[0].value.shape == (0, 2)
    assert "A chart needs rows with a column of numbers" in words(app)
    app = ask(app, "explain select slide_id from slides")
    assert "PARQUET_SCAN" in app.code[-1].value
    assert not app.dataframe


def test_an_answer_is_shown_where_no_process_for_the_next_can_be_started(
    open_page: Open, full_lake: TestLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page(full_lake.root, "sql")
    monkeypatch.setattr(workbench, "COMMAND", ("/nowhere",))
    assert ask(app, "select 42 as answer").dataframe[0].value["answer"].to_list() == [42]
    assert not app.error
    assert "No process can be started" in ask(app, "select 43").error[0].value


def test_an_example_is_put_into_the_editor(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "sql")
    about, text = list(sql_page.examples().items())[-1]
    app.selectbox(key="example").select(about).run()
    assert app.text_area(key=sql_page.STATEMENT).value == text


def test_every_example_has_an_answer_on_a_finished_lake(full_lake: TestLake) -> None:
    files = sorted(sql_page.EXAMPLES.glob("*.sql"))
    assert len(files) == len(sql_page.examples()) > 8
    with session.connect(full_lake.root, udfs=()) as con:
        for path in files:
            rows = con.execute(path.read_text()).pl()
            assert rows.height or path.stem in ("failures", "missed_tumor"), path.stem


def test_the_catalog_describes_every_table_view_and_macro(full_lake: TestLake) -> None:
    catalog = reading.catalog(reading.Lake(str(full_lake.root), 0))
    for table in TABLES.values():
        columns = catalog.filter(kind="table", name=table.name)
        assert columns["column_name"].to_list() == [column.name for column in table.columns]
        assert columns["column_about"].to_list() == [column.about for column in table.columns]
        types = dict(columns.select("column_name", "type").rows())
        assert all(types[each.name] == each.type for each in table.columns if each.name != table.partition)
    with session.connect(full_lake.root, udfs=()) as con:
        everything = {name for (name,) in con.execute("show tables").fetchall()}
    assert everything - {"functions"} == set(catalog.filter(pl.col("kind") != "macro")["name"])
    assert catalog.filter(kind="macro", name="meaning_of")["parameters"].to_list() == [["label", "is_exclusion"]]
    views = catalog.filter(kind="view")
    assert views["about"].str.len_chars().min() > 20
    assert views.filter(column_name="slide_id")["column_about"].null_count() == 0


def test_the_catalog_is_searched_by_all_words(open_page: Open, full_lake: TestLake) -> None:
    catalog = reading.catalog(reading.Lake(str(full_lake.root), 0))
    assert set(found(catalog, "radius PEAKS")["name"]) == {"detections"}
    assert found(catalog, "").equals(catalog)
    assert found(catalog, "nothing like it").is_empty()
    app = open_page(full_lake.root, "sql")
    app.text_input(key="sought").set_value("radius_um").run()
    assert [expander.label for expander in app.expander] == ["`detections`"]
    app.text_input(key="sought").set_value("[nothing*like]it").run()
    assert "No table, view or macro" in app.info[0].value


def test_downloads_are_the_rows_that_are_shown() -> None:
    frame = pl.DataFrame(
        {"n": [1, None], "list": [[1.5, None], None], "struct": [{"a": "x,\n"}, None], "blob": [b"\x00\xff", None]}
    )
    assert pl.read_parquet(io.BytesIO(sql_page.as_parquet(frame))).equals(frame)
    rows = pl.read_csv(as_csv(frame).encode()).rows()
    assert rows == [(1, "[1.5, null]", '{"a": "x,\\n"}', "00ff"), (None, None, None, None)]
    assert sql_page.shown(frame)["blob"].to_list() == ["2 bytes: 00ff", None]
    assert as_csv(pl.DataFrame({"a": []})) == "a\n"


def test_a_chart_draws_what_an_axis_can_show() -> None:
    frame = pl.DataFrame(
        {"a.b:c[0]": ["x", "y"], "n": [1, 2], "is": [True, None], "list": [[1], [2]], "blob": [b"", b""]}
    )
    columns = drawable(frame.with_columns(pl.col("n").cast(pl.Decimal(10, 2)).alias("exact")))
    assert columns.columns == ["a.b:c[0]", "n", "is", "exact"]
    assert columns["exact"].dtype == pl.Float64
    drawn = columns.select(x="a.b:c[0]", y="n", color="is")
    for kind in ("bar", "line", "scatter"):
        made = chart(drawn, kind, x="a.b:c[0]", y="n", color="is").to_dict()
        assert made["encoding"]["x"]["field"] == "x"
        assert made["encoding"]["x"]["title"] == "a.b:c[0]"
        assert made["encoding"]["color"]["title"] == "is"
    assert alt.data_transformers.options.get("max_rows", 5_000) >= POINTS


def test_a_large_answer_is_sampled_for_its_chart_and_the_next_has_its_own_columns(
    open_page: Open, full_lake: TestLake
) -> None:
    app = ask(open_page(full_lake.root, "sql"), "select range as a, range * 2 as b from range(6000)")
    assert "5,000 of the 6,000 rows in the table are drawn" in words(app)
    app.selectbox(key="chart_color").select("a")
    app.selectbox(key="chart_y").select("a")
    app.button_group(key="chart_kind").set_value(["scatter"]).run()
    assert not app.exception
    app = ask(app, "select 3 as three, 4 as four")  # the columns chosen before are gone
    assert app.selectbox(key="chart_y").value in ("three", "four")


def test_a_lake_without_slides_says_what_to_type(open_page: Open, lake: TestLake, tmp_path: Path) -> None:
    assert "histolake ingest" in words(open_page(lake.root, "sql"))
    assert "histolake demo" in words(open_page(tmp_path / "nowhere", "sql"))


def test_without_a_model_the_examples_have_empty_answers(
    open_page: Open, lake: TestLake, finished: tuple[Path, Path]
) -> None:
    lake.ok("ingest", str(finished[0] / "slides" / "normal_1.tif"))
    app = open_page(lake.root, "sql")
    app = ask(app, app.text_area(key=sql_page.STATEMENT).value)
    assert "0 rows" in words(app)
    with session.connect(lake.root, udfs=()) as con:
        for path in sql_page.EXAMPLES.glob("*.sql"):
            con.execute(path.read_text()).pl()
