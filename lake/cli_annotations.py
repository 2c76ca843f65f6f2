"""Commands on annotations: what their groups mean, and what changed from one version to another."""

from __future__ import annotations

from typing import Annotated

import typer

from lake import session
from lake.cli_options import AsJson, Lake, Trace
from lake.cli_output import print_frame, print_json, say
from lake.groups import Meaning

groups = typer.Typer(help="What the groups of annotation files mean.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(groups, name="groups")


@groups.command(name="list", epilog="Example:  `histolake groups list`")
def list_groups(as_json: AsJson = False, lake: Lake = None, trace: Trace = False) -> None:
    """List the groups that are known or occur: what each means, and how many annotations and slides have it."""
    from lake.groups import meanings

    found = meanings(session.lake_path(lake))
    if as_json:
        print_json(found.to_dicts())
        return
    print_frame(found, most=found.height)


@groups.command(name="set", epilog="Example:  `histolake groups set Carcinoma tumor`")
def set_group(
    name: Annotated[str, typer.Argument(help="The group or class as the files have it; case does not matter.")],
    meaning: Annotated[Meaning, typer.Argument(help="tumor, normal, exclusion (cut out of tumor) or none.")],
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Say what a group means. `histolake run` then labels the patches of its slides again."""
    from lake.groups import set_meaning
    from lake.store import new_run_id

    changed = set_meaning(session.lake_path(lake), name, meaning, new_run_id())
    say(f"{name.strip().lower()} means {meaning}; {changed:,} annotations changed")
