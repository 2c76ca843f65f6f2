"""Commands on annotations: what their groups mean, and what changed from one version to another."""

from __future__ import annotations

from typing import Annotated

import typer

from lake.choices import Meaning, lake_path
from lake.cli_options import AsJson, Lake, Trace
from lake.cli_output import print_frame, print_json, say

groups = typer.Typer(help="What the groups of annotation files mean.", no_args_is_help=True)

diff = typer.Typer(help="What changed from one version of a table to another.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(groups, name="groups")
    app.add_typer(diff, name="diff")


@groups.command(name="list", epilog="Example:  `histolake groups list`")
def list_groups(as_json: AsJson = False, lake: Lake = None, trace: Trace = False) -> None:
    """List the groups that are known or occur: what each means, and how many annotations and slides have it."""
    from lake.groups import meanings

    found = meanings(lake_path(lake))
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

    changed = set_meaning(lake_path(lake), name, meaning, new_run_id())
    say(f"{name.strip().lower()} means {meaning}; {changed:,} annotations changed")


@diff.command(name="annotations", epilog="Example:  `histolake diff annotations --from 3 --to 4`")
def diff_annotations(
    from_version: Annotated[
        int | None, typer.Option("--from", metavar="VERSION", help="By default the version before --to.")
    ] = None,
    to_version: Annotated[
        int | None, typer.Option("--to", metavar="VERSION", help="By default the newest version.")
    ] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Show which shapes changed, the patches that have another label, and by how much metrics moved after training.

    `histolake history annotations` lists the versions.
    """
    from lake.diff import annotation_changes

    found = annotation_changes(lake_path(lake), from_version, to_version)
    if as_json:
        frames = {"shapes": found.shapes, "patches": found.patches, "metrics": found.metrics}
        versions = {"from": found.from_version, "to": found.to_version, "models": found.models}
        print_json(versions | {name: frame.to_dicts() for name, frame in frames.items()})
        return
    say(f"annotations, version {found.from_version} to {found.to_version}: {found.shapes.height} shapes differ")
    if found.shapes.height:
        unit = "px" if found.shapes["differing_mm2"].null_count() else "mm2"
        areas = [f"{name}_{unit}" for name in ("before", "after", "differing")]
        print_frame(found.shapes.select("slide_id", "annotation_id", "change", "group_name", *areas))
    say("patches that have another label, on the slides concerned:" if found.patches.height else "no label changed")
    if found.patches.height:
        print_frame(found.patches)
    unlabelled = sorted(set(found.patches.filter(labelled_after=0)["slide_id"]))
    if unlabelled:
        say(f"not labelled anew: {', '.join(unlabelled[:10])}; `histolake run` does it")
    before, after = found.models
    if after is None:
        say(f"no model was trained after version {found.from_version} and up to {found.to_version}; `histolake train`")
    elif before is None:
        say(f"model {after} has none to be compared with: none of its kind was trained on version {found.from_version}")
    else:
        say(f"metrics of model {before} and, trained on the later annotations, {after}:")
        print_frame(found.metrics, most=found.metrics.height)
