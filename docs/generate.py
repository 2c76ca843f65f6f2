"""Writes tables.md, functions.md and commands.md beside itself, from the code: `python docs/generate.py`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import typer

from lake import creation, session, sql_files
from lake.cli import app
from lake.tables import APART, TABLES

HERE = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py from {source}: change that, then run it. -->"
NAMES = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}
HEADER_WORDS = "table|key|over|identity|order|optional|grain|units|params|notice"


def main() -> None:
    """Write all generated pages."""
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """The generated pages: file name and content."""
    return {"tables.md": tables(), "functions.md": functions(), "commands.md": commands()}


def tables() -> str:
    """Every table, view, stage and promise."""
    lines = [
        NOTE.format(source="lake/tables.py and sql/"),
        "# Tables",
        "A lake is a folder of Delta tables, one folder a table; any engine that reads Delta reads them. "
        "Lengths are level-0 pixels and resolutions microns per pixel, unless the column says otherwise; the order is "
        "always (x, y), (width, height). Types are DuckDB's.",
        "Inside `lake.connect()` and `histolake sql` there are three more: `snapshot` (the Delta version of every "
        "table that the connection sees), `table_columns` (this page) and `functions` ([functions.md](functions.md)).",
    ]
    for table in (*TABLES.values(), *APART.values()):
        lines += [f"## {table.name}", table.about, f"Key: {_codes(table.key)}."]
        lines += [f"Partitioned by `{table.partition}`."] if table.partition else []
        rows = [(f"`{column.name}`", column.type, column.about) for column in table.columns]
        lines.append(_grid(("column", "type", "holds"), rows))
    return _page([*lines, *_views(), *_stages(), *_checks()])


def _views() -> Iterator[str]:
    yield "# Views"
    yield (
        "A view is a file in `sql/views`, or in the folder `sql/views` of a lake. "
        "Read views rather than tables: they leave out the rows of slides, annotations and tilings as they once were."
    )
    with tempfile.TemporaryDirectory() as folder:
        creation.create(Path(folder) / "lake")
        with session.connect(Path(folder) / "lake", udfs=()) as con:
            for path in sql_files.view_files():
                header = _header(path)
                yield f"## {path.stem}"
                yield _sentence(header["about"])
                yield from (f"{word.capitalize()}: {header[word]}." for word in ("grain", "units") if word in header)
                columns = zip(con.view(path.stem).columns, map(str, con.view(path.stem).types), strict=True)
                yield ", ".join(f"`{name}` {_plain(type_)}" for name, type_ in columns)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plain(type_: str) -> str:
    return type_.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")


def _stages() -> Iterator[str]:
    yield "# Stages"
    yield (
        "A stage is a file in `sql`, or in the folder `sql` of a lake, that fills the table of its name; "
        "see [adding a stage](adding-a-stage.md). They run in this order."
    )
    rows = [
        (
            f"`{each.name}`",
            _sentence(each.about),
            f"`{each.over}`",
            _codes(each.identity),
            _codes(sorted(each.parameters), "$"),
        )
        for each in sql_files.stages().values()
    ]
    yield _grid(("stage", "is", "reads", "identity besides the slide", "parameters"), rows)


def _checks() -> Iterator[str]:
    yield "# Promises"
    yield (
        "A promise is a query in `sql/checks` that returns what breaks it; `histolake check` runs all. "
        "A notice is worth knowing and breaks nothing."
    )
    headers = {path.stem: _header(path) for path in sorted((sql_files.SQL / "checks").glob("*.sql"))}
    rows = [(f"`{name}`", _sentence(header["about"]), "notice" in header) for name, header in headers.items()]
    yield _grid(("promise", "says", ""), [(name, about, "notice" if is_it else "") for name, about, is_it in rows])


def _header(path: Path) -> dict[str, str]:
    """The first comment of a SQL file: `about`, and its lines by their first word."""
    comment = path.read_text(encoding="utf-8").partition("\n\n")[0]
    found = {"about": sql_files.about(comment)}
    word = ""
    for line in comment.splitlines()[1:]:
        text = line.removeprefix("--")
        start = re.match(rf" ({HEADER_WORDS})\b\s*", text)
        if start:
            word = start[1]
            found[word] = text[start.end() :].strip()
        elif word and text.strip():
            found[word] += " " + text.strip()
    return found


def functions() -> str:
    """Every SQL function: signature and docstring."""
    lines = [
        NOTE.format(source="the docstrings in udfs/"),
        "# Functions",
        "These Python functions can be called in the lake's SQL, beside all of DuckDB's. "
        "Each row is computed by itself; a NULL argument gives NULL unless it says otherwise.",
    ]
    for name, each in sorted(session.functions(Path()).items()):
        lines += [f"## {name}", f"```\n{_signature(each.name, each.parameters)} -> {each.returns}\n```"]
        lines.append(each.about.replace("*", r"\*"))
    return _page(lines)


def _signature(name: str, parameters: Sequence[tuple[str, str]]) -> str:
    return f"{name}({', '.join(f'{parameter} {type_}' for parameter, type_ in parameters)})"


def commands() -> str:
    """Every command: usage, what it does, its arguments and options."""
    lines = [
        NOTE.format(source="lake/cli.py and its lake/cli_*.py"),
        "# Commands",
        "Exit status: 0 when all went well, 1 when something failed (one line on stderr says what, in which file, and "
        "what to do), 2 for a command line that cannot be understood. `--trace` prints each SQL statement, and errors "
        "in full. Results go to stdout, all else to stderr.",
    ]
    for name, command in every_command():
        lines += [f"## histolake {name}", command.help or ""]
        hints = get_type_hints(command.callback)
        rows = [parameter_row(each, hints[each.name]) for each in command.params if each.name in hints]
        lines.append(_grid(("parameter", "default", "meaning"), rows))
        lines += [command.epilog] if command.epilog else []
    return _page(lines)


def every_command() -> Iterator[tuple[str, Any]]:
    """The command line's commands in the order of --help; those of a group follow by both names."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


def parameter_row(parameter: Any, hint: Any) -> tuple[str, str, str]:
    """How an option or argument of that type is written, its default, and its help."""
    word = parameter.opts[-1] if parameter.param_type_name == "option" else ""
    is_flag = getattr(parameter, "is_flag", False)
    value = "" if is_flag else parameter.metavar or (_type_name(hint) if word else parameter.name.upper())
    repeats = " …" if getattr(parameter, "multiple", False) or parameter.nargs == -1 else ""
    value = value.removeprefix("[").removesuffix("]...").removesuffix("]")
    default = "required" if parameter.required else "" if parameter.default in (None, False, ()) else parameter.default
    shown = f"`{default}`" if default not in ("", "required") else str(default)
    return f"`{f'{word} {value}'.strip()}{repeats}`", shown, parameter.help or ""


def _type_name(hint: Any) -> str:
    """What a value of the type is, in one word: INT, or the members of an enumeration."""
    plain = next((each for each in get_args(hint) if each is not NoneType), hint)
    is_choice = isinstance(plain, type) and issubclass(plain, Enum)
    return "|".join(str(member.value) for member in plain) if is_choice else NAMES.get(plain, str(plain))


def _codes(names: Iterable[str], prefix: str = "") -> str:
    return ", ".join(f"`{prefix}{name}`" for name in names)


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _page(blocks: Iterable[str]) -> str:
    return "\n\n".join(block.strip() for block in blocks) + "\n"


if __name__ == "__main__":
    main()
