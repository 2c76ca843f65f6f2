"""The lineage page: tables and versions, what differs between two of them, the ledger, the promises."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest
from support import TestLake, asap
from viewer_support import Open, tables, words

from lake import store, table_diff, upkeep
from lake.tables import TABLES
from udfs.errors import LakeError
from viewer import lineage_reading
from viewer.lineage_promises import BROKEN, KEPT

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def nothing_checked() -> None:
    """The app remembers the promises of every lake; tests change the lake at one path."""
    lineage_reading.last_checked.clear()


def shown(app: AppTest, column: str) -> pl.DataFrame:
    """The one table of the page that has the column."""
    [found] = [each for each in tables(app) if column in each.columns]
    return found


def test_every_table_is_listed_with_its_rows_and_who_wrote_last(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "lineage")
    listed = shown(app, "about")
    assert listed["table_name"].to_list() == sorted(TABLES)
    versions = full_lake.versions()
    runs = full_lake.read("runs")
    for row in listed.to_dicts():
        name = row["table_name"]
        assert row["version"] == versions[name]
        assert row["rows"] == full_lake.read(name).height
        written = runs.filter(pl.col("table_version").is_not_null() & (pl.col("stage") == name))
        newest = written.sort("table_version") if name != "runs" else runs.sort("finished_at")
        assert row["run_id"] == (newest["run_id"][-1] if newest.height else None)
    assert f"{listed['rows'].sum():,} rows" in words(app)
    assert "Times are UTC" in words(app)
    assert "histolake reproduce" in words(app)


def test_sizes_come_from_the_log_alone(full_lake: TestLake) -> None:
    counted = full_lake.read("features").height
    files = list((full_lake.root / "features").rglob("*.parquet"))
    in_all = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    size = upkeep.size(store.open_table(full_lake.root, "features"))
    assert (size.rows, size.bytes, size.files) == (counted, in_all, len(files))
    assert upkeep.size(store.open_table(full_lake.root, "reviews")) == upkeep.Size(0, 0, 0)


def test_the_history_of_a_table_has_the_runs_of_its_versions(open_page: Open, full_lake: TestLake) -> None:
    full_lake.ok("optimize", "settings")
    app = open_page(full_lake.root, "lineage", table="settings")
    history = shown(app, "operation")
    assert history["version"].to_list() == list(range(full_lake.versions()["settings"], -1, -1))
    known = full_lake.read("runs").filter(stage="settings").select("table_version", "run_id").rows()
    assert set(history.select("version", "run_id").drop_nulls().rows()) == set(known)
    assert isinstance(history["at"][0], datetime)

    assert history["operation"][0] == "optimize"
    app.toggle(key="difference of settings").set_value(True).run()
    assert "only its files were arranged anew" in words(app)
    app.selectbox(key="chosen table").select("predictions").run()
    assert shown(app, "operation")["operation"].to_list() == ["write", "create table"]


def test_what_is_not_there_in_the_address_is_a_sentence(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "lineage", **{"table": "settings", "from": "99"})
    assert "from=99: settings has the versions 0 to" in words(app)
    for told in ("²", "9" * 5_000):
        app.query_params["from"] = told
        app.run()
        assert not app.exception
        assert f"from={told[:9]}" in words(app)
    app.query_params["table"] = "nowhere"
    app.run()
    assert "the lake has no such table" in words(app)


def test_two_versions_of_a_small_table_differ_in_rows(open_page: Open, full_lake: TestLake) -> None:
    before = full_lake.versions()["settings"]
    setting = full_lake.read("settings").filter(name="seed")["value"][0]
    store.put(full_lake.root, "settings", [{"name": "seed", "value": "7"}], "test")
    app = open_page(full_lake.root, "lineage", **{"table": "settings", "from": str(before), "to": str(before + 1)})
    assert f"--at settings={before}" in words(app)
    app.toggle(key="difference of settings").set_value(True).run()
    difference = shown(app, "what")
    assert difference.select("change", "name", "what").rows() == [("changed", "seed", f"value: {setting} → 7")]
    app.number_input(key="to of settings").set_value(before).run()
    assert "Choose an earlier version" in words(app)


def test_two_versions_of_a_large_table_differ_in_units_of_work(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "lineage", table="features")
    app.toggle(key="difference of features").set_value(True).run()
    units = shown(app, "fingerprint_after")
    counts = dict(full_lake.read("features").group_by("slide_id").len().iter_rows())
    assert dict(units.select("slide_id", "rows_after").iter_rows()) == counts
    assert units["change"].unique().to_list() == ["added"]


def test_two_versions_of_the_annotations_differ_in_shapes_and_labels(
    open_page: Open, full_lake: TestLake, slides: Path
) -> None:
    (slides / "tumor_4.xml").write_text(asap([("Tumor", (256, 128, 384, 256))]))
    full_lake.ok("ingest", "--annotations", str(slides / "tumor_4.xml"))
    full_lake.ok("run", *full_lake.tiling)
    app = open_page(full_lake.root, "lineage", table="annotations")
    assert "histolake diff annotations --from" in words(app)
    app.toggle(key="difference of annotations").set_value(True).run()
    assert "**Shapes.** 1 differ" in words(app)
    assert shown(app, "differing_px")["slide_id"].to_list() == ["tumor_4"]
    assert shown(app, "to_tumor")["slide_id"].to_list() == ["tumor_4"]
    assert "No model was trained on the later annotations" in words(app)


def test_a_version_whose_files_are_gone_is_a_sentence(open_page: Open, full_lake: TestLake) -> None:
    before = full_lake.versions()["settings"]
    store.put(full_lake.root, "settings", [{"name": "seed", "value": "7"}], "test")
    full_lake.ok("vacuum", "settings", "--keep-hours", "0")
    app = open_page(full_lake.root, "lineage", **{"table": "settings", "from": str(before), "to": str(before + 1)})
    app.toggle(key="difference of settings").set_value(True).run()
    assert "vacuuming deletes old versions' files" in app.error[0].value.replace("\\", "")


def test_differences_of_what_is_not_there_say_so(full_lake: TestLake) -> None:
    with pytest.raises(LakeError, match="no table 'nowhere'"):
        table_diff.changes(full_lake.root, "nowhere", 0, 1)
    with pytest.raises(LakeError, match="go from 0 to"):
        table_diff.changes(full_lake.root, "slides", 0, 99)


def test_rows_differ_by_key_and_say_in_what() -> None:
    before = pl.DataFrame({"k": ["a", "b", "c"], "v": [1, 2, None], "j": ['{"x": 1, "y": 2}', "{", None]})
    after = pl.DataFrame({"k": ["b", "c", "d", "a"], "v": [2, None, 4, 1], "j": ["{", None, "z", '{"x": 1, "y": 3}']})
    same = table_diff.row_changes(before, before.reverse(), ("k",))
    assert same.is_empty()
    assert table_diff.row_changes(before, after, ("k",)).rows() == [
        ("added", "d", "v: 4; j: z"),
        ("changed", "a", "j.y: 2 → 3"),
    ]
    assert table_diff.row_changes(after, before, ("k",))["change"].to_list() == ["changed", "removed"]
    grown = before.with_columns(new=pl.lit("n"))
    assert table_diff.row_changes(before, grown, ("k",))["what"].to_list() == ["new: NULL → n"] * 3
    assert table_diff.row_changes(before.clear(), before, ("k",)).height == 3


def test_the_ledger_has_failures_first_and_is_filtered(open_page: Open, lake_with_failure: TestLake) -> None:
    app = open_page(lake_with_failure.root, "lineage")
    entries = shown(app, "is_newest")
    assert entries.height == lake_with_failure.read("runs").height
    first = entries.row(0, named=True)
    assert (first["status"], first["stage"], first["slide_id"]) == ("failed", "slides", "broken")
    assert "OpenSlide does not know this format" in first["error"]
    assert "Failed: 1 of slides. `histolake run --retry-failed`" in app.error[0].value.replace("\\", "")

    app.selectbox(key="ledger stage").select("predictions").run()
    assert set(shown(app, "is_newest")["stage"]) == {"predictions"}
    app.selectbox(key="ledger stage").select("all")
    app.text_input(key="ledger slide").input("TUMOR_1").run()
    assert set(shown(app, "is_newest")["slide_id"]) == {"tumor_1"}
    app.selectbox(key="ledger status").select("failed").run()
    assert "No entry of the ledger is like that" in words(app)


def test_a_failure_that_was_mended_is_no_longer_first(open_page: Open, lake_with_failure: TestLake) -> None:
    broken = lake_with_failure.root.parent / "broken.tif"
    broken.write_bytes((lake_with_failure.root.parent / "slides" / "normal_1.tif").read_bytes() + b"x")
    lake_with_failure.ok("ingest", str(broken))
    app = open_page(lake_with_failure.root, "lineage")
    assert not app.error
    assert shown(app, "is_newest")["status"][0] == "ok"
    assert "none failed" in words(app)


def test_promises_are_checked_when_asked_for_and_remembered(open_page: Open, full_lake: TestLake) -> None:
    app = open_page(full_lake.root, "lineage")
    assert "Not checked since the app was started" in words(app)
    app.button(key="check").click().run()
    promises = shown(app, "promise")
    assert promises.height > 20
    assert set(promises["state"]) <= {KEPT, "ⓘ notice"}
    assert "0 of" in app.success[0].value

    store.put(full_lake.root, "settings", [{"name": "champion", "value": "no_model"}], "test")
    app.run()
    app.button(key="refresh").click().run()
    assert "The lake has changed since: check again" in app.success[0].value.replace("\\", "")
    app.button(key="check").click().run()
    promises = shown(app, "promise")
    assert promises["state"][0] == BROKEN
    [violated] = [each for each in tables(app) if "no_model" in str(each.rows())]
    assert violated.height == 1
    assert f"{promises.filter(state=BROKEN).height} of {promises.height} promises broken" in words(app)
