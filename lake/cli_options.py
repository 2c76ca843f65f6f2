"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lake.choices import EngineName, tracing


def _trace(is_on: bool) -> bool:
    if is_on:
        tracing.on = True
    return is_on


def example(text: str) -> dict[str, Any]:
    """The closing lines of a command's --help."""
    return {"epilog": f"Example:  `{text}`"}


Lake = Annotated[
    str | None,  # of an address a Path would lose a slash
    typer.Option(
        metavar="PATH",
        help="The lake's folder, or s3://BUCKET/PREFIX; by default $HISTOLAKE_LAKE, else ./data.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Do again what failed before.")]
Trace = Annotated[bool, typer.Option("--trace", callback=_trace, help="Print each SQL statement, and errors in full.")]
Slides = Annotated[
    list[str] | None, typer.Option("--slide", metavar="GLOB", help="Only slides whose id matches; may be repeated.")
]
Region = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H|NAME", help="A segment of interest, level-0 px, or an annotation of the one --slide."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="model_id, MLflow run id, models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ID/model; "
        "by default the champion.",
    ),
]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="Where the work is done: here, or on a Ray cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Of Ray's head node; by default $RAY_ADDRESS, else Ray is started on this machine."
    ),
]
CpusPerWorker = Annotated[int, typer.Option(min=1, help="CPUs, and threads, of each of Ray's workers.")]
GpusPerWorker = Annotated[float, typer.Option(min=0.0, help="GPUs of each of Ray's workers; 0.5 if two share one.")]
