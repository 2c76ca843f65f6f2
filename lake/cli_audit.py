"""Commands on the audit table: what it tells, and whether it is as it was written."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Trace, example
from lake.cli_output import print_json, print_table, say
from udfs.errors import HistolakeError

audit = typer.Typer(help="Who did what, when, and whether that account is as it was written.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(audit, name="audit")


@audit.command(
    "verify", **example("histolake audit verify --tip 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
)
def verify(
    tip: Annotated[
        str | None, typer.Option(metavar="HASH", help="What this command printed before, kept elsewhere.")
    ] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Compute every hash of the audit table anew; exit status 1 when a row was changed, removed, put in or moved.

    Prints the hash of the last row. Keep it where nobody who writes to the lake can: --tip then finds rows that were
    taken off the end, and a chain that was written anew, which nothing else can.
    """
    from lake.audit_reading import verify as verify_chain

    found = verify_chain(lake_path(lake), tip)
    if as_json:
        print_json(vars(found))
    else:
        for problem in found.problems:
            say(problem)
        since = f", the first of {found.first_at:%Y-%m-%d %H:%M:%S} UTC" if found.first_at else ""
        say(f"{found.events:,} rows{since}: {'BROKEN' if found.problems else 'the chain is whole'}")
        if found.tip:
            sys.stdout.write(f"{found.tip}\n")
    if found.problems:
        raise typer.Exit(1)


@audit.command("show", **example("histolake audit show --slide tumor_001 --since 2026-11-01"))
def show(
    who: Annotated[str | None, typer.Option(metavar="GLOB", help="Only of whom: subject or name.")] = None,
    slide: Annotated[str | None, typer.Option(metavar="GLOB", help="Only on slides whose id matches.")] = None,
    action: Annotated[str | None, typer.Option(metavar="GLOB", help="Only these, e.g. opened or denied.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on, e.g. 2026-11-01T08:00; UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """List what the audit table tells, the newest first."""
    from lake.audit_reading import events

    found = events(lake_path(lake), who=who, slide=slide, action=action, since=_time(since), most=limit)
    if as_json:
        print_json(found.to_dicts())
        return
    columns = (
        "sequence",
        "recorded_at",
        "subject",
        "role",
        "via",
        "action",
        "slide_id",
        "object",
        "versions",
        "details",
    )
    print_table(columns, found.select(columns).rows())


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise HistolakeError(f"--since {text}: must be a day or a time, e.g. 2026-11-01 or 2026-11-01T08:00") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
