"""Commands on trained models: list them, choose the champion."""

from __future__ import annotations

from typing import Annotated

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Trace
from lake.cli_output import print_json, print_table, say

models = typer.Typer(help="List trained models, choose the champion.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(models, name="models")


@models.command("list", epilog="Example:  `histolake models list --json`")
def list_models(as_json: AsJson = False, lake: Lake = None, trace: Trace = False) -> None:
    """The models of the lake, newest first."""
    from lake import session
    from lake.sql_files import query

    with session.connect(lake, udfs=()) as con:
        rows = con.execute(query("app/model_list")).pl().to_dicts()
    if as_json:
        print_json(rows)
        return
    columns = ("model_id", "head", "encoder_id", "protocol", "threshold", "validation_auc", "is_champion")
    print_table(columns, [[row[column] for column in columns] for row in rows])


@models.command(
    "promote", epilog="Example:  `histolake models promote models:/histolake/1 --reason 'fewer false positives'`"
)
def promote(
    model: Annotated[str, typer.Argument(help="model_id, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model.")],
    reason: Annotated[str | None, typer.Option(help="Why; the ledger keeps it.")] = None,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Make a model the champion: predictions, metrics and heatmaps are of it by default."""
    from lake import models as trained
    from lake.store import new_run_id

    root = lake_path(lake)
    row = trained.find(root, model)
    trained.make_champion(root, row, new_run_id(), reason)
    say(f"model {row['model_id']} ({row['uri']}) is the champion")
