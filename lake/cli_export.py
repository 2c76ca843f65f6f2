"""Commands that leave files: heatmaps, contact sheets, and exports for QuPath and Camelyon16's evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lake.choices import lake_path
from lake.cli_options import AsJson, Lake, Model, Region, Slides, Trace, example
from lake.cli_output import print_json, print_table, say

if TYPE_CHECKING:
    from lake.export import Written

exports = typer.Typer(
    help="Write annotations and results for QuPath and Camelyon16's evaluation.", no_args_is_help=True
)


class Format(StrEnum):
    """How hotspots are written."""

    geojson = "geojson"
    csv = "csv"


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(**example("histolake heatmap tumor_001 --out tumor_001.png"))(heatmap)
    app.command(**example("histolake show tumor_001 --patches 6 --mpp 0.5 --mpp 2"))(show)
    app.add_typer(exports, name="export")


def heatmap(
    slide: Annotated[str, typer.Argument(help="slide_id")],
    out: Annotated[Path, typer.Option(help="The file to write: .png, .geojson (QuPath) or .tif (pyramid).")],
    region: Region = None,
    tint: Annotated[bool, typer.Option("--tint", help="Redden each tile by its probability; .png only.")] = False,
    model: Model = None,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Draw a slide with every patch coloured by its probability of tumor."""
    from lake import pictures, places

    root = lake_path(lake)
    area = places.area_named(root, region, slide) if region else None
    pictures.write_heatmap(root, slide, out, region=area, tint=tint, model=model)
    say(f"wrote {out}")


def show(
    slide: Annotated[str, typer.Argument(help="slide_id")],
    patches: Annotated[int, typer.Option(min=1, max=400, help="How many, spread over the slide.")] = 16,
    mpp: Annotated[
        list[float] | None, typer.Option(metavar="NUMBER", help="Zoom levels side by side, microns per px.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The PNG to write; by default SLIDE-patches.png.")] = None,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Draw a contact sheet of a slide's patches."""
    from lake import pictures

    target = out or Path(f"{slide}-patches.png")
    pictures.write_contact_sheet(lake_path(lake), slide, target, patches=patches, mpp=tuple(mpp or ()))
    say(f"wrote {target}")


GeoJson = Annotated[Path, typer.Option(help="A folder for SLIDE.geojson files, or one such file.")]


@exports.command("annotations", **example("histolake export annotations --slide 'tumor_*' --out annotations"))
def export_annotations(
    out: GeoJson, slide: Slides = None, as_json: AsJson = False, lake: Lake = None, trace: Trace = False
) -> None:
    """Write every shape of the annotation files as QuPath annotations, groups as classes."""
    from lake import export

    _tell(export.export_annotations(lake_path(lake), out, slides=slide or ()), as_json)


@exports.command("predictions", **example("histolake export predictions --slide tumor_001 --out tumor_001.geojson"))
def export_predictions(
    out: GeoJson,
    slide: Slides = None,
    model: Model = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Write every scored patch as a QuPath tile with its probability and class."""
    from lake import export

    _tell(export.export_predictions(lake_path(lake), out, slides=slide or (), model=model), as_json)


@exports.command("hotspots", **example("histolake export hotspots --format csv --out froc"))
def export_hotspots(
    out: Annotated[Path, typer.Option(help="A folder for a file a slide, or one file of one slide.")],
    format: Annotated[
        Format | None,
        typer.Option(
            help="QuPath points, or Camelyon16's rows probability,x,y for its FROC; by default as --out ends, "
            "geojson in a folder."
        ),
    ] = None,
    slide: Slides = None,
    model: Model = None,
    detection_radius_um: Annotated[
        float | None, typer.Option(help="Least distance between two peaks, microns; by default the newest search's.")
    ] = None,
    smoothing_um: Annotated[
        float | None, typer.Option(help="Of the heatmap, microns; by default the newest search's.")
    ] = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Write the peaks of the heatmaps, highest first."""
    from lake import export

    format = format or (Format.csv if out.suffix.lower() == export.CSV else Format.geojson)
    written = export.export_hotspots(
        lake_path(lake),
        out,
        slides=slide or (),
        ending=f".{format.value}",
        model=model,
        radius_um=detection_radius_um,
        smoothing_um=smoothing_um,
    )
    _tell(written, as_json)


@exports.command("scores", **example("histolake export scores --out scores.csv"))
def export_scores(
    out: Annotated[Path, typer.Option(help="The CSV to write: slide_id,score a line.")],
    name: Annotated[str, typer.Option(help="Way of scoring, see the table slide_scores.")] = "max",
    slide: Slides = None,
    model: Model = None,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Write one score a slide, as Camelyon16 asks of the slide task."""
    from lake import export

    _tell(export.export_scores(lake_path(lake), out, slides=slide or (), model=model, name=name), as_json)


def _tell(written: Sequence[Written], as_json: bool) -> None:
    if as_json:
        print_json([vars(each) for each in written])
    else:
        print_table(("slide", "file", "objects"), [(each.slide_id, each.file, each.objects) for each in written])
