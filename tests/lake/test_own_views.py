"""Views that a lake has of its own, in its folder sql/views."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from lake import connect
from udfs.errors import LakeError


@pytest.fixture
def views(empty_lake: Path, tmp_path: Path) -> Path:
    shutil.copytree(empty_lake, tmp_path / "lake")
    folder = tmp_path / "lake" / "sql" / "views"
    folder.mkdir(parents=True)
    return folder


def test_a_view_that_calls_a_function_is_there_where_the_function_is(views: Path) -> None:
    root = views.parent.parent
    (views / "measured.sql").write_text("select slide_id, tissue_fraction(path, 0, 0, 9, 9, 0.05) as t from slides")
    (views / "above.sql").write_text("select slide_id from measured where t > 0.5")
    assert connect(root).table("above").fetchall() == []
    with connect(root, udfs=()) as con:
        assert con.table("slides").fetchall() == []
        for name in ("measured", "above"):
            with pytest.raises(duckdb.CatalogException, match=name):
                con.table(name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("select tisue_fraction(path) from slides", "tisue_fraction"),
        ("select nothing from slides", "nothing"),
        ("selec 1", "selec"),
    ],
)
def test_a_view_that_cannot_be_made_is_named_with_the_reason(views: Path, text: str, why: str) -> None:
    (views / "mine.sql").write_text(text)
    with pytest.raises(LakeError, match=rf"mine\.sql: .*{why}.*; correct the view"):
        connect(views.parent.parent)
