"""Finds and reads the project's SQL: stages, views, and the queries that Python runs by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import duckdb

from lake import storage
from udfs.errors import HistolakeError

SQL = Path(__file__).resolve().parent.parent / "sql"

_HEADER = re.compile(r"^-- (table|key|over|counts|identity|order|optional)\b[ \t]*(.*)$", re.MULTILINE)
_TABLES = re.compile(r"(?<!\bdistinct )\b(?:from|join)\s+([a-z_]\w*)", re.IGNORECASE)


@dataclass(frozen=True)
class Stage:
    """A stage: one SELECT that fills the table of its name, and what its header declares.

    over: the view or relation whose rows are fed to the SELECT. counts: the view that knows how many each unit has;
    empty where they are counted. identity: columns (of `over`, or
    $params) that with the slide and part make a unit of work. order: of the rows of `over` as they are
    fed. optional: runs only when asked for.
    """

    name: str
    about: str
    key: tuple[str, ...]
    over: str
    counts: str
    identity: tuple[str, ...]
    order: str
    is_optional: bool
    select: str
    parameters: frozenset[str]

    @property
    def reads_pixels(self) -> bool:
        """Whether it crops patches, which are a thousand times as large as other values."""
        return self._calls("crop")

    @property
    def embeds(self) -> bool:
        """Whether it calls an encoder."""
        return self._calls("embed")

    @property
    def opens_slides(self) -> bool:
        """Whether it needs the slides' own files."""
        return self._calls("crop|tissue_fraction|slide_properties")

    def _calls(self, functions: str) -> bool:
        return re.search(rf"\b({functions})\s*\(", re.sub(r"--.*", "", self.select)) is not None


@cache
def query(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def stage(path: Path) -> Stage:
    """Read a stage file.

    Raises HistolakeError when its header or its SELECT is not one that can be run.
    """
    text = path.read_text(encoding="utf-8")
    header = {word: rest.strip() for word, rest in _HEADER.findall(text)}
    missing = [word for word in ("table", "key", "over") if not header.get(word)]
    if missing:
        raise HistolakeError(f"{path}: the header lacks a line `-- {missing[0]} …`; see docs/adding-a-stage.md")
    if header["table"] != path.stem:
        raise HistolakeError(f"{path}: declares table {header['table']!r}; name the file and the table alike")
    return Stage(
        name=path.stem,
        about=about(text),
        key=_names(header["key"]),
        over=header["over"],
        counts=header.get("counts", ""),
        identity=_names(header.get("identity", "")),
        order=header.get("order", ""),
        is_optional="optional" in header,
        select=text,
        parameters=frozenset(parameters(path, text)),
    )


def parameters(path: Path, text: str) -> set[str]:
    """The $params of a file's one SELECT. Raises HistolakeError when it is not one SELECT."""
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise HistolakeError(f"{path}: {error}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise HistolakeError(f"{path}: must hold exactly one SELECT")
    return set(statements[0].named_parameters)


def about(text: str) -> str:
    """The sentence behind the name in a SQL file's first comment."""
    first = text.partition("\n")[0]
    return first.removeprefix("-- ").partition(": ")[2] or first.removeprefix("-- ")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def stages(lake: Path | None = None) -> dict[str, Stage]:
    """All stages in the order in which they can run: the project's, and those in the lake's folder sql/.

    A stage is a file whose header declares a table. It comes after the stages whose tables its SELECT, or a
    view in it, reads. Where a lake has a stage or view in the place of one of ours, all count what there is.
    """
    folders = [SQL] + ([lake / "sql"] if lake is not None else [])
    files = [path for folder in folders for path in storage.sql_files(folder)]
    found = {path.stem: stage(path) for path in files if "\n-- table " in path.read_text(encoding="utf-8")}
    if lake is not None and any(
        (SQL / path.relative_to(lake / "sql")).is_file() for path in (lake / "sql").rglob("*.sql")
    ):
        found = {name: replace(each, counts="") for name, each in found.items()}
    reads = {name: relations_read(each, lake) & set(found) - {name} for name, each in found.items()}
    return {name: found[name] for name in in_order(reads)}


def relations_read(stage: Stage, lake: Path | None = None) -> set[str]:
    """The tables and views that a stage's SELECT reads, and those that these views read."""
    views = {path.stem: path.read_text(encoding="utf-8") for path in view_files(lake)}
    return _reads(stage.select, views)


def is_ours(stage: Stage, lake: Path) -> bool:
    """Whether the stage and all views that it reads are the project's, and none of them the lake's."""
    file, own_views = SQL / f"{stage.name}.sql", {path.stem for path in storage.sql_files(lake / "sql" / "views")}
    return file.is_file() and stage.select == query(stage.name) and not relations_read(stage, lake) & own_views


def view_files(lake: Path | None = None) -> list[Path]:
    """The views: the project's, and those in the lake's folder sql/views/."""
    folders = [SQL / "views"] + ([lake / "sql" / "views"] if lake is not None else [])
    return [path for folder in folders for path in storage.sql_files(folder)]


def tables_named(text: str) -> set[str]:
    """The names after every FROM and JOIN of a SELECT: tables, views and its own CTEs."""
    return set(_TABLES.findall(text))


def _reads(text: str, views: dict[str, str]) -> set[str]:
    tables = tables_named(text)
    return tables | {name for view in tables & set(views) for name in _reads(views[view], views)}


def in_order(reads: dict[str, set[str]]) -> Iterable[str]:
    """The names, each after those that it reads; otherwise as they stand."""
    done: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise HistolakeError(f"SQL files read each other in a circle: {' -> '.join((*path, name))}")
        if name not in done:
            for other in sorted(reads[name] & set(reads)):
                visit(other, (*path, name))
            done[name] = None

    for name in reads:
        visit(name, ())
    return done
