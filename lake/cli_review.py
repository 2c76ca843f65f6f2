"""Commands for reviewers: which labels are doubtful, and what a reviewer says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Model, Trace
from lake.cli_output import print_json, print_table, say
from udfs.errors import HistolakeError


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example:  `histolake label-errors --limit 24 --out doubtful.png`")(label_errors)
    app.command(epilog="Example:  `histolake review tumor_001 5120 3840 normal --note 'germinal centre'`")(review)


def label_errors(
    slide: Annotated[
        list[str] | None, typer.Option("--slide", metavar="GLOB", help="Only slides whose id matches; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw them on a contact sheet.")] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """List patches whose label the model confidently contradicts, the most doubtful first; not those reviewed."""
    from lake import reviews

    root = lake_path(lake)
    row, found = reviews.label_errors(root, model=model, slides=tuple(slide or ()), most=limit)
    columns = ("slide_id", "x", "y", "split", "label", "probability", "label_probability", "position_on_slide")
    if as_json:
        print_json(found.select("position", *columns, "span_x", "span_y", "patch_set").to_dicts())
    else:
        say(f"model {row['model_id']} on {row['patch_set']}")
        titles = ("slide", "x", "y", "split", "label", "probability", "of the label", "on slide")
        print_table(titles, found.select(columns).rows())
        if seen := found.filter(split="train").height:
            say(f"{seen} lie on training slides: the model has seen these labels, and doubts them less than it should")
    if out is not None and found.is_empty():
        say(f"no label is in doubt: {out} is not written")
    elif out is not None:
        from lake import pictures

        pictures.write_patches(root, found, out)
        say(f"wrote {out}")


def review(
    slide: Annotated[str | None, typer.Argument(help="slide_id")] = None,
    x: Annotated[float | None, typer.Argument(help="Level-0 px, anywhere in a patch.")] = None,
    y: Annotated[float | None, typer.Argument(help="Level-0 px, anywhere in a patch.")] = None,
    verdict: Annotated[str | None, typer.Argument(metavar="tumor|normal|unsure", help="What the patch is.")] = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who judges; by default the user of this machine.")] = None,
    verdicts: Annotated[
        Path | None, typer.Option("--from", metavar="CSV", help="Many at once: slide_id,x,y,verdict,note,reviewer.")
    ] = None,
    model: Model = None,
    patch_set: Annotated[
        str | None, typer.Option("--patch-set", help="Tiling; by default the finest of whole slides that was scored.")
    ] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Say what patches are. Verdicts are added to the table reviews, none is overwritten; the newest one holds."""
    from lake import reviews
    from lake.places import Place
    from lake.store import new_run_id

    if verdicts is not None:
        if slide is not None or note is not None:
            raise HistolakeError("review: give a patch, or --from CSV with a column note; not both")
        said = reviews.read_verdicts(verdicts, reviewer)
    elif slide is None or x is None or y is None or verdict is None:
        raise HistolakeError("review: say SLIDE X Y and tumor, normal or unsure; or --from CSV")
    else:
        said = [reviews.Verdict(Place(slide, x, y), verdict, note, reviewer or reviews.this_user())]
    root = lake_path(lake)
    rows = reviews.review(root, said, model=model, patch_set=patch_set, run_id=new_run_id())
    if as_json:
        print_json(rows)
        return
    columns = ("slide_id", "x", "y", "verdict", "label", "probability", "reviewer", "note")
    print_table(columns, [[row[name] for name in columns] for row in rows])
