"""Declares SQL functions: a Python function over Arrow columns and its SQL types, side by side."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

Column = pa.Array
"""What a UDF gets for each parameter: one Arrow array, at most 2,048 rows, nulls included."""

Batch = Callable[..., pa.Array]


BORROWED = {"VARCHAR", "BLOB"}
"""Results that DuckDB 1.5 frees while COALESCE still reads them, unless they come dictionary-encoded."""

rows_seen: Counter[str] = Counter()
"""Rows that each function was called with in this process; progress bars read it, roughly right is enough."""


@dataclass(frozen=True)
class Udf:
    """A SQL function: `function` maps one Arrow array per parameter to one array of results.

    macro: statements that make a macro of this name; it calls the function as NAME_udf, for the rows that need it.
    """

    name: str
    parameters: tuple[tuple[str, str], ...]  # name, SQL type
    returns: str
    about: str
    function: Batch
    macro: str = ""

    @property
    def signature(self) -> str:
        """The function as an analyst would write it, with types."""
        inside = ", ".join(f"{name} {type_}" for name, type_ in self.parameters)
        return f"{self.name}({inside}) -> {self.returns}"

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        """Make the function callable from `con`'s SQL, with nulls passed to it."""

        @functools.wraps(self.function)  # DuckDB counts the parameters of what is wrapped
        def batch(*columns: pa.ChunkedArray) -> pa.Array:
            rows_seen[self.name] += len(columns[0])
            result = self.function(*(_whole(column) for column in columns))
            return result.dictionary_encode() if self.returns in BORROWED else result

        con.create_function(
            f"{self.name}_udf" if self.macro else self.name,
            batch,
            [duckdb.type(type_) for _, type_ in self.parameters],
            duckdb.type(self.returns),
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
            side_effects=True,  # else DuckDB calls it twice on rows that a filter on its result lets pass
        )
        if self.macro:
            con.execute(self.macro)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies


UDFS: dict[str, Udf] = {}
"""The functions that need nothing but their arguments, by name."""


def declare(function: Batch, *types: str, returns: str) -> Udf:
    """Describe `function`, whose parameters have the SQL `types` in order."""
    names = list(inspect.signature(function).parameters)
    if len(names) != len(types):
        raise TypeError(f"{function.__name__} has {len(names)} parameters but {len(types)} SQL types")
    about = inspect.getdoc(function) or ""
    return Udf(function.__name__, tuple(zip(names, types, strict=True)), returns, about, function)


def udf(*types: str, returns: str) -> Callable[[Batch], Batch]:
    """Declare the decorated function as a SQL function of the same name."""

    def decorate(function: Batch) -> Batch:
        UDFS[function.__name__] = declare(function, *types, returns=returns)
        return function

    return decorate


def register(con: duckdb.DuckDBPyConnection, functions: Iterable[Udf]) -> None:
    """Register every function on `con`."""
    for function in functions:
        function.register(con)
