"""Every table, function, command, parameter and query is documented, and the generated pages are as the code is."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest
from support import ROOT

from lake import session, sql_files
from lake.tables import TABLES

SQL_FILES = sorted(sql_files.SQL.rglob("*.sql"))
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]


def load(path: Path) -> ModuleType:
    """The script at `path`, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load(ROOT / "docs/generate.py")


@pytest.mark.parametrize("name", ["tables.md", "functions.md", "commands.md"])
def test_a_generated_page_is_as_the_code_is(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generate.pages()[name], "run `python docs/generate.py` and commit what it writes"


def test_every_table_and_column_says_what_it_holds() -> None:
    for table in TABLES.values():
        assert table.about.endswith("."), table.name
        assert set(table.key) <= {column.name for column in table.columns}, table.name
        for column in table.columns:
            assert len(column.about) > 5, f"{table.name}.{column.name}"


def test_every_function_says_what_it_returns() -> None:
    for each in session.functions(Path()).values():
        assert len(each.about) > 40, each.name
        assert each.about.partition("\n\n")[0].rstrip().endswith("."), each.name


def test_every_command_and_every_parameter_has_help() -> None:
    for name, command in generate.every_command():
        assert command.help, name
        assert command.epilog, f"{name} has no example"
        for parameter in command.params:
            assert parameter.name == "help" or parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: str(path.relative_to(sql_files.SQL)))
def test_a_query_says_what_it_is_and_names_its_parameters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = text.partition("\n\n")[0]
    assert re.match(rf"-- {path.stem}: \S.*\.\n?", header), "the first line is `-- name: sentence.`"
    assert all(line.startswith("--") for line in header.splitlines())
    used = {name for statement in duckdb.extract_statements(text) for name in statement.named_parameters}
    named = set(re.findall(r"\$(\w+)", header))
    assert used <= named
    assert named - used <= set(re.findall(r"\w+", header.partition("-- identity")[2].partition("\n")[0]))


def links() -> Iterator[Any]:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not target.startswith(("http", "mailto:")):
                yield pytest.param(page, target, id=f"{page} to {target}")


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_a_link_leads_to_a_file(page: str, target: str) -> None:
    assert ((ROOT / page).parent / target).exists()
