"""The commands that fetch public data sets."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lake.cli_options import Trace, example
from lake.cli_output import say, stderr
from udfs.errors import HistolakeError

fetching = typer.Typer(help="Fetch public slides.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    fetching.command(**example("histolake fetch camelyon16 --slides tumor_001,normal_001"))(camelyon16)
    app.add_typer(fetching, name="fetch")


def camelyon16(
    slides: Annotated[str, typer.Option(metavar="NAMES", help="As tumor_001,normal_001,test_001.")],
    into: Annotated[Path, typer.Option(help="The folder for them.")] = Path("camelyon16"),
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="ADDRESS", help="Another place with the same files, by default AWS Open Data."),
    ] = None,
    trace: Trace = False,
) -> None:
    """Fetch slides of the Camelyon16 challenge with annotations, masks and reference: 1 to 4 GB each."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from lake import camelyon16 as challenge

    names = [name.strip() for name in slides.split(",") if name.strip()]
    if not names:
        raise HistolakeError("--slides: name at least one, as tumor_001")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bars:

        def came(name: str, held: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=held)

        new = challenge.fetch(names, into, source or challenge.SOURCE, came)
    say(f"{len(new)} files came, {into} is complete" if new else f"nothing to do: {into} is complete")
    words = ["histolake", "ingest", "--manifest", str(into / "manifest.csv")]
    if any((into / "annotations").glob("*.xml")):
        words += ["--annotations", str(into / "annotations")]
    say(f"next:  {shlex.join(words)}")
