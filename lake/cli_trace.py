"""Commands that show where results come from, and whether they come out again."""

from __future__ import annotations

from typing import Annotated

import typer

from lake import session
from lake.cli_options import AsJson, Lake, Trace
from lake.cli_output import print_json, stdout

Model = Annotated[
    str | None, typer.Option("--model", metavar="URI", help="model_id or MLflow URI; by default the champion.")
]
PatchSet = Annotated[
    str | None, typer.Option("--patch-set", help="Tiling; by default the finest of whole slides that was scored.")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example:  `histolake explain tumor_001 5120 3840`")(explain)


def explain(
    slide: Annotated[str, typer.Argument(help="slide_id")],
    x: Annotated[float, typer.Argument(help="Level-0 px, anywhere in a patch.")],
    y: Annotated[float, typer.Argument(help="Level-0 px, anywhere in a patch.")],
    model: Model = None,
    patch_set: PatchSet = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Show all that a patch's prediction follows from: model, training set, encoder, slide, and who wrote what."""
    from lake import trace as tracing
    from lake.trace_tree import tree

    root = session.lake_path(lake)
    found = tracing.explain(root, slide, x, y, model=model, patch_set=patch_set)
    if as_json:
        print_json(found)
    else:
        stdout.print(tree(found, root))
