"""Commands that look after a lake's tables: their history, small files, and what no version needs any more."""

from __future__ import annotations

from typing import Annotated

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Trace, example
from lake.cli_output import print_json, print_table, say, stderr


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(**example("histolake history features"))(history)
    app.command(**example("histolake optimize features"))(optimize)
    app.command(**example("histolake vacuum --keep-hours 168"))(vacuum)
    app.command(**example("histolake maintain --dry-run"))(maintain)


def history(
    table: Annotated[str | None, typer.Argument(help="A table; without one, the newest version of each.")] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Who wrote what when: a table's versions, newest first."""
    from lake import store, upkeep

    root = lake_path(lake)
    names = [table] if table else store.names(root)
    limit = None if table else 1
    rows = [{"table": name, **commit} for name in names for commit in upkeep.history(root, name, limit)]
    if as_json:
        print_json(rows)
    else:
        print_table(("table", "version", "at", "operation", "rows", "units"), [list(row.values()) for row in rows])


def optimize(
    table: Annotated[str | None, typer.Argument(help="A table; without one, all.")] = None,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Merge small files, so that reading stays fast. Readers and writers may go on."""
    from lake import creation, store, upkeep

    root = lake_path(lake)
    if store.is_lake(root):
        creation.create(root)
    rows = [(name, upkeep.optimize(root, name)) for name in ([table] if table else store.names(root))]
    print_table(("table", "files merged"), rows)


def vacuum(
    table: Annotated[str | None, typer.Argument(help="A table; without one, all.")] = None,
    keep_hours: Annotated[int, typer.Option(min=0, help="Versions of the last hours stay readable.")] = 168,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Delete files that only older versions need: they can then no longer be read."""
    from lake import store, upkeep

    root = lake_path(lake)
    names = [table] if table else store.names(root)
    print_table(("table", "files deleted"), [(name, upkeep.vacuum(root, name, keep_hours)) for name in names])


def maintain(
    table: Annotated[list[str] | None, typer.Argument(help="Tables; without one, all.")] = None,
    keep_hours: Annotated[int, typer.Option(min=24, help="Versions of the last hours stay readable.")] = 168,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and do nothing.")] = False,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Merge small files, delete those that no version needs, and write checkpoints. Readers and writers may go on.

    Versions that a model was trained from are kept, however old they are.
    """
    from dataclasses import asdict

    from lake import creation, maintenance, store

    root = lake_path(lake)
    if dry_run:
        done = [*maintenance.plan(root, table, keep_hours=keep_hours)]
    else:
        if store.is_lake(root):
            creation.create(root)
        with stderr.status("looking after the lake") as status:
            done = [*maintenance.maintain(root, table, keep_hours=keep_hours, tell=status.update)]
    if as_json:
        print_json([asdict(each) for each in done])
        return
    busy = [each for each in done if not each.is_idle]
    if not busy:
        say("nothing to do: every table is as it should be")
        return
    columns = (
        "table",
        "files",
        "files merged",
        "files deleted",
        "bytes freed",
        "checkpoint",
        "kept for models",
    )
    print_table(columns, [(*list(vars(each).values())[:-1], len(each.kept)) for each in busy])
    if dry_run:
        say("this is what there is to do, at most; nothing was done")
