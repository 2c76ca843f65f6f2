"""Commands on people: who has which role in the app."""

from __future__ import annotations

from typing import Annotated

import typer

from lake.choices import Role, lake_path
from lake.cli_options import AsJson, Lake, Trace
from lake.cli_output import print_json, print_table, say

Name = Annotated[str, typer.Argument(help="Their e-mail address, or the subject of their login.")]

people = typer.Typer(
    help="Who has which role in the app: for logins whose provider does not tell roles.", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(people, name="people")


@people.command(name="list", epilog="Example:  `histolake people list`")
def list_people(as_json: AsJson = False, lake: Lake = None) -> None:
    """List everybody who has a role."""
    from lake import people as table

    found = table.people(lake_path(lake))
    if as_json:
        print_json(found.to_dicts())
    else:
        print_table(("person", "role"), found.select("person", "role").rows())


@people.command(name="set", epilog="Example:  `histolake people set alice@example.org analyst`")
def set_person(
    name: Name,
    role: Annotated[Role, typer.Argument(help="viewer sees, analyst also queries and reviews, admin also promotes.")],
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Give a person a role; the app heeds it within ten seconds."""
    from lake import people as table

    table.set_role(lake_path(lake), name, role)
    say(f"{table.named(name)} has the role {role}")


@people.command(name="remove", epilog="Example:  `histolake people remove alice@example.org`")
def remove_person(name: Name, lake: Lake = None, trace: Trace = False) -> None:
    """Take a person's role away; the app heeds it within ten seconds."""
    from lake import people as table

    table.remove(lake_path(lake), name)
    say(f"{table.named(name)} has no role")
