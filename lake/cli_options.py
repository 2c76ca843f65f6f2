"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lake import session


def _trace(is_on: bool) -> bool:
    if is_on:
        session.tracing.on = True
    return is_on


Lake = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH", help="The lake's folder; by default $HISTOLAKE_LAKE, else ./data.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Do again what failed before.")]
Trace = Annotated[bool, typer.Option("--trace", callback=_trace, help="Print each SQL statement, and errors in full.")]
