"""Labels are a log: what holds is right after any sequence of edits, and an edit writes what it changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.sql_files import SQL, query
from udfs.geometry import annotated_area, contains_points, covered_fractions, point  # noqa: F401  (registers them)
from udfs.registry import UDFS, register

PATCHES = range(4)  # in a row, 10 px wide
SCHEMA = [
    "create table slide_tilings (slide_id text, patch_set text, fingerprint text)",
    "create table annotated_slides (slide_id text, kind text, annotation_hash text)",
    "create table annotations (slide_id text, label int, is_exclusion bool, geometry blob, format text)",
    "create table labels (slide_id text, patch_set text, part int, label_rule text, annotation_hash text, "
    "x bigint, y bigint, label int, fingerprint text, bucket int)",
    "create table runs (stage text, slide_id text, identity text, part int, fingerprint text, status text, "
    "table_version bigint, input_versions text)",
    "create view labelable_patches as select t.slide_id, t.patch_set, 0 as part, 10 * i as x, 0 as y, 10.0 as span_x, "
    "10.0 as span_y, t.fingerprint, 3 as bucket, a.kind, md5(a.annotation_hash || t.fingerprint) as annotation_hash "
    "from slide_tilings as t, annotated_slides as a, range(4) as r (i)",
]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables that labels follow from, and the project's own views and functions."""
    with duckdb.connect(config={"threads": 1}) as con:
        register(con, (UDFS[name] for name in ("annotated_area", "contains_points", "covered_fractions", "point")))
        for statement in SCHEMA:
            con.execute(statement)
        for view in ("tumor_shapes", "label_units", "current_labels"):
            con.sql((SQL / "views" / f"{view}.sql").read_text()).create_view(view)
        yield con


class Log:
    """The log of labels that runs write with the project's own SQL, empty at first."""

    def __init__(self, con: duckdb.DuckDBPyConnection, rule: str) -> None:
        self.con, self.rule, self.version = con, rule, 0
        self.con.execute("delete from labels; delete from runs")

    def draw(self, tumor: frozenset[int], fingerprint: str) -> None:
        """Make the annotations, and the slide's file, what they are to be."""
        is_points = self.rule == "points"
        for table in ("annotations", "annotated_slides", "slide_tilings"):
            self.con.execute(f"delete from {table}")
        for number in tumor:
            shape = (
                shapely.Point(10 * number + 5, 5) if is_points else shapely.box(10 * number, 0, 10 * number + 10, 10)
            )
            row = [shapely.to_wkb(shape), "ncrf_csv" if is_points else "asap_xml"]
            self.con.execute("insert into annotations values ('one', 1, false, ?, ?)", row)
        kind = "point" if is_points else "area"
        self.con.execute("insert into annotated_slides values ('one', ?, ?)", [kind, str(sorted(tumor))])
        self.con.execute("insert into slide_tilings values ('one', 'grid', ?)", [fingerprint])

    def begin(self) -> dict[str, Any]:
        """What a run that starts now is going to write, and how the ledger will tell of it."""
        parameters = {"label_rule": self.rule, "min_covered": 0.5}
        rows = self.con.execute(query("labels"), parameters).pl()
        [(name, fingerprint)] = self.con.execute(
            "select distinct annotation_hash, fingerprint from labelable_patches"
        ).fetchall()
        return {"hash": name, "fingerprint": fingerprint, "rows": rows, "base": self.version}

    def commit(self, run: dict[str, Any]) -> None:
        """Have the run write, as the pipeline does: in the place of what the same unit wrote before."""
        rows = run["rows"]
        self.con.execute("delete from labels where annotation_hash = ?", [run["hash"]])
        self.con.register("rows", rows.to_arrow())
        self.con.execute("insert into labels select *, 3 from rows")
        self.con.unregister("rows")
        self.version += bool(rows.height)
        identity = {"patch_set": "grid", "label_rule": self.rule, "annotation_hash": run["hash"]}
        self.con.execute(
            "insert into runs values ('labels', 'one', ?, 0, ?, ?, ?, ?)",
            [
                json.dumps(identity),
                run["fingerprint"],
                "ok" if rows.height else "empty",
                self.version if rows.height else None,
                json.dumps({"labels": run["base"]}),
            ],
        )

    def current(self) -> dict[int, int]:
        """The labels that hold, by patch."""
        return dict(self.con.execute("select (x // 10)::int, label from current_labels order by all").fetchall())


def truth(rule: str, tumor: frozenset[int]) -> dict[int, int]:
    """The labels that the drawing means."""
    return dict.fromkeys(sorted(tumor), 1) if rule == "points" else {number: int(number in tumor) for number in PATCHES}


STEPS = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from(PATCHES)),
        st.sampled_from(["file 1", "file 1", "file 1", "file 2"]),
        st.booleans(),  # whether the run is slow: it ends after later ones
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(rule=st.sampled_from(["centre", "covered>=0.5", "points"]), steps=STEPS)
def test_what_holds_is_what_is_drawn_after_any_sequence_of_edits_and_runs(
    con: duckdb.DuckDBPyConnection, rule: str, steps: Any
) -> None:
    log, done, slow = Log(con, rule), {}, []
    for tumor, fingerprint, is_slow in steps:
        log.draw(tumor, fingerprint)
        if (tumor, fingerprint) not in done:
            assert log.current() == {}
            run = log.begin()
            if is_slow:
                slow.append((tumor, fingerprint, run))
                continue
            done[tumor, fingerprint] = run["base"]
            log.commit(run)
        assert log.current() == truth(rule, tumor)
    for tumor, fingerprint, run in slow:
        if done.setdefault((tumor, fingerprint), run["base"]) == run["base"]:
            log.commit(run)
    for tumor, fingerprint in done:
        log.draw(tumor, fingerprint)
        assert log.current() == truth(rule, tumor)


@settings(max_examples=5, deadline=None)
@given(before=st.frozensets(st.sampled_from(PATCHES)), after=st.frozensets(st.sampled_from(PATCHES)))
def test_a_run_writes_the_patches_that_an_edit_changes_and_no_other(
    con: duckdb.DuckDBPyConnection, before: frozenset[int], after: frozenset[int]
) -> None:
    log = Log(con, "centre")
    log.draw(before, "file")
    first = log.begin()
    assert first["rows"].height == len(PATCHES)
    log.commit(first)
    log.draw(after, "file")
    if after != before:  # else nothing is to be done
        assert {x // 10 for x in log.begin()["rows"]["x"]} == before ^ after
