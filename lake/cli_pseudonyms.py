"""The command that tells, to who holds the key file, what pseudonyms stand for."""

from __future__ import annotations

from typing import Annotated

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Trace, example
from lake.cli_output import print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(**example("histolake pseudonyms slide-4qlkzzbtnfh2m6ox"))(pseudonyms)


def pseudonyms(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PSEUDONYMS]...", help="Of slides, patients, paths or annotation files; by default all slides."
        ),
    ] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Tell what pseudonyms stand for. Needs the key file, which HISTOLAKE_KEY names."""
    from lake.pseudonymize import meanings

    slides, others = meanings(lake_path(lake), names or ())
    if as_json:
        print_json({"slides": slides, "others": others})
        return
    for rows in (slides, others):
        if rows:
            print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
