"""Which statements a person may run on the SQL page: one SELECT, or EXPLAIN of one, that reads the lake alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from udfs.errors import QueryError

LONGEST = 100_000  # characters of a statement
LONGEST_REASON = 1_000  # characters of DuckDB's message

TABLE_FUNCTIONS = frozenset(
    [
        "range",
        "generate_series",
        "unnest",
        "repeat",
        "repeat_row",
        "json_each",
        "json_tree",
        "summary",
        "test_all_types",
        "duckdb_columns",
        "duckdb_constraints",
        "duckdb_databases",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_memory",
        "duckdb_schemas",
        "duckdb_settings",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "pragma_platform",
        "pragma_show",
        "pragma_table_info",
        "pragma_version",
        "pg_timezone_names",
    ]
)
"""What may stand behind FROM. Other functions read files, take pointers, run SQL given as text, or switch logging."""

NO_FUNCTIONS = frozenset(["files_of", "json_serialize_plan", "write_log"])
"""What may stand nowhere: it tells where files are, plans SQL given as text, or writes to a log."""

ONE_SELECT = "one statement is run, and only SELECT (also FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE) or EXPLAIN"
NO_FILES = "the page reads the lake's tables and views, and no files"


def checked(con: duckdb.DuckDBPyConnection, text: str) -> str:
    """The statement as it is to be run, once it is known to be one that may.

    con: a sealed connection, for parsing alone can read files (`import database`). Raises QueryError naming what is
    refused, or the syntax error.
    """
    if not text.strip():
        raise QueryError("there is no statement; write one, or choose an example")
    if len(text) > LONGEST:
        raise QueryError(f"the statement has {len(text):,} characters; at most {LONGEST:,} are run")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise QueryError("the statement holds a NUL character, or half of another; delete it")
    kinds = _kinds(con, text)
    if kinds == ["EXPLAIN"]:
        prefix, inner = _unwrapped(text)
        if _kinds(con, inner) != ["SELECT"]:
            raise QueryError(f"EXPLAIN is run of one SELECT alone; {ONE_SELECT}")
        _refuse_strangers(con, inner)
        return f"{prefix} {inner}"
    if kinds == ["CREATE", "SELECT"]:
        raise QueryError("PIVOT needs its values named: pivot … on COLUMN in ('one', 'other') using …")
    if kinds != ["SELECT"]:
        found = f"{len(kinds)} statements" if len(kinds) > 1 else kinds[0] if kinds else "only a comment"
        raise QueryError(f"{ONE_SELECT}; this is {found}")
    _refuse_strangers(con, text)
    return text


def reason(error: Exception) -> str:
    """DuckDB's message as one sentence, with the line that it concerns; its drawing of the line is left out."""
    said, _, place = str(error).partition("\n\nLINE ")
    sentence = " ".join(said.partition("\n\nStack Trace")[0].split())
    if len(sentence) > LONGEST_REASON:
        sentence = sentence[:LONGEST_REASON] + " …"
    number, _, excerpt = place.partition("\n")[0].partition(": ")
    return f"{sentence} (line {number}: {excerpt.strip()})" if number.isdigit() else sentence


def _kinds(con: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    try:
        return [statement.type.name for statement in con.extract_statements(text)]
    except duckdb.Error as error:
        raise QueryError(reason(error)) from None


def _unwrapped(text: str) -> tuple[str, str]:
    """EXPLAIN or EXPLAIN ANALYZE, and the statement behind it: the latter would be run, whatever it is."""
    raw = text.encode()
    starts = [start for start, _ in duckdb.tokenize(text)]
    words = [match[0].lower() for start in starts[:2] if (match := re.match(rb"\w*", raw[start:]))]
    used = 2 if words[1:] == [b"analyze"] else 1
    inner = raw[starts[used] :] if len(starts) > used else b""
    return b" ".join(words[:used]).decode(), inner.decode()


def _refuse_strangers(con: duckdb.DuckDBPyConnection, select: str) -> None:
    """Refuse functions behind FROM that are not known to be harmless, some anywhere, and files in a table's place."""
    [(tree,)] = con.execute("select json_serialize_sql($select::varchar)", {"select": select}).fetchall()
    try:
        parsed = json.loads(tree)
    except RecursionError:
        raise QueryError("the statement is nested too deeply; write parts of it as CTEs (with … as …)") from None
    if parsed["error"]:  # a PRAGMA that DuckDB counts as a SELECT
        raise QueryError(f"{ONE_SELECT}; this is none")
    for node in _nodes(parsed):
        if node.get("type") == "TABLE_FUNCTION":
            name = node["function"].get("function_name", "").lower()
            if name not in TABLE_FUNCTIONS:
                raise QueryError(f"the function {name} cannot be used here; {NO_FILES}")
        elif (name := str(node.get("function_name", "")).lower()) in NO_FUNCTIONS:
            raise QueryError(f"the function {name} cannot be used here; {NO_FILES}")
        elif node.get("type") == "BASE_TABLE" and "/" in "".join(
            node[part] for part in ("catalog_name", "schema_name", "table_name")
        ):
            raise QueryError(f"{node['table_name']!r} is no table; {NO_FILES}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parsed JSON document."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
