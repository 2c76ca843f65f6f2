"""Commands that show where results come from, and whether they come out again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Model, Trace
from lake.cli_output import print_json, print_table, say, stderr, stdout

if TYPE_CHECKING:
    from lake.compare import Comparison

PatchSet = Annotated[
    str | None, typer.Option("--patch-set", help="Tiling; by default the finest of whole slides that was scored.")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example:  `histolake explain tumor_001 5120 3840`")(explain)
    app.command(epilog="Example:  `histolake reproduce models:/histolake/1`")(reproduce)
    app.command(epilog="Example:  `histolake compare models:/histolake/1 models:/histolake/2 --out changes`")(compare)


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

    root = lake_path(lake)
    found = tracing.explain(root, slide, x, y, model=model, patch_set=patch_set)
    if as_json:
        print_json(found)
    else:
        stdout.print(tree(found, root), soft_wrap=False)


def reproduce(
    model: Annotated[str, typer.Argument(metavar="RUN_ID", help="model_id, MLflow run id or URI, or champion.")],
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Train a model again from the tables as they were then; exit status 1 when its metrics do not come out equal."""
    from lake.reproduce import reproduce as train_again

    with stderr.status(f"training {model} again"):
        found = train_again(lake_path(lake), model)
    rows = [(each.name, each.recorded, each.reproduced, each.difference) for each in found.metrics]
    columns = ("metric", "recorded", "reproduced", "difference")
    if as_json:
        told = {"model_id": found.model["model_id"], "reproduced_model_id": found.model_id}
        told |= {"is_equal": found.is_equal, "verdict": found.verdict}
        print_json({**told, "metrics": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        versions = json.loads(found.model["table_versions"])
        say(f"model {found.model['model_id']}, trained again on {', '.join(f'{k} {v}' for k, v in versions.items())}")
        print_table(columns, rows)
        say(found.verdict)
    if not found.is_equal:
        raise typer.Exit(1)


def compare(
    model_a: Annotated[str, typer.Argument(help="model_id, MLflow run id or URI, or champion.")],
    model_b: Annotated[str, typer.Argument(help="As MODEL_A; differences are its value less A's.")],
    split: Annotated[str | None, typer.Option(help="Only train, validation or test.")] = None,
    slide: Annotated[
        list[str] | None, typer.Option("--slide", metavar="GLOB", help="Only slides whose id matches; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Draw each slide with a flipped patch, or each --slide, as SLIDE.png."),
    ] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Show what changes from one model to another: metrics, slides that flip, patches that flip."""
    from lake import compare as comparing
    from lake import pictures

    root = lake_path(lake)
    found = comparing.compare(root, model_a, model_b, split=split, slides=tuple(slide or ()))
    drawn = []
    if out is not None:
        changed = found.slides if slide else found.changed
        drawn = pictures.write_differences(root, found, out, changed["slide_id"].to_list())
    if as_json:
        print_json(
            {
                "model_a": found.model_a["model_id"],
                "model_b": found.model_b["model_id"],
                "patch_set": found.patch_set,
                "metrics": found.metrics.to_dicts(),
                "paired": found.paired,
                "slides": found.slides.to_dicts(),
                "pictures": drawn,
            }
        )
    else:
        _print_comparison(found)
    for path in drawn:
        say(f"wrote {path}")


def _print_comparison(found: Comparison) -> None:
    for name, model in (("A", found.model_a), ("B", found.model_b)):
        flatters = "; trained on patches of every slide: it flatters" if model["protocol"] == "patch_random" else ""
        say(f"{name} is {model['model_id']} ({model['uri']}) of {model['encoder_id']}{flatters}")
    say(f"compared on {found.patch_set}")
    _print_metrics(found)
    flips = ("slide_id", "split", "patches", "to_tumor", "to_normal", "largest_difference", "score_a", "score_b")
    rows = [(*(row[name] for name in flips), _call(row)) for row in found.changed.to_dicts()]
    if rows:
        columns = ("slide", "split", "patches", "to tumor", "to normal", "largest change", "A", "B", "slide called")
        print_table(columns, rows, title="slides with flipped patches")
    say(f"{len(rows)} of {found.slides.height} slides have flipped patches, {found.slides['is_flipped'].sum()} flip")


def _print_metrics(found: Comparison) -> None:
    stored = [
        (row["split"], f"{row['scope']} {row['name']}", _estimate(row, "_a"), _estimate(row, "_b"), row["difference"])
        for row in found.metrics.to_dicts()
    ]
    if stored:
        print_table(("split", "metric", "A", "B", "B - A"), stored, title="as `histolake evaluate` measured them")
    if not found.metrics["is_same_lake"].fill_null(False).all():
        say("not all were measured on the same slides, patches and labels; `histolake evaluate --model` measures anew")
    shared = [
        (row["split"], row["name"], row["value_a"], row["value_b"], _estimate({**row, "value": row["difference"]}))
        for row in found.paired
    ]
    if shared:
        print_table(("split", "patch metric", "A", "B", "B - A"), shared, title="on the patches that both have scored")


def _estimate(row: Mapping[str, Any], side: str = "") -> str | None:
    value, low, high = (row[f"{name}{side}"] for name in ("value", "low", "high"))
    if value is None:
        return None
    return f"{value:.4g}" if low is None or high is None else f"{value:.4g} ({low:.4g} to {high:.4g})"


def _call(row: Mapping[str, Any]) -> str:
    return f"{row['call_a']}, now {row['call_b']}" if row["is_flipped"] else str(row["call_b"])
