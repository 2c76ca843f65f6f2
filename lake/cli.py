"""The command `histolake`: the workflow, step by step. Pictures and files are in cli_export, the lake's in cli_lake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lake import (
    cli_annotations,
    cli_audit,
    cli_doctor,
    cli_evaluate,
    cli_export,
    cli_fetch,
    cli_ingest,
    cli_lake,
    cli_models,
    cli_people,
    cli_pseudonyms,
    cli_review,
    cli_trace,
    cli_upkeep,
)
from lake.choices import CALIBRATIONS, HEADS, Engine, EngineName, lake_path
from lake.cli_options import (
    Address,
    AsJson,
    CpusPerWorker,
    EngineOption,
    GpusPerWorker,
    Lake,
    Model,
    Region,
    RetryFailed,
    Slides,
    Trace,
    example,
)
from lake.cli_output import finish, print_json, print_table, say, stderr
from lake.storage_faults import read_failure
from udfs.errors import HistolakeError
from udfs.exhaustion import shortage

INTERRUPTED = 130  # the exit status that Typer makes of KeyboardInterrupt
STOPPED = "histolake: stopped; what was committed stays, the same command goes on from there"

app = typer.Typer(
    help="Whole-slide pathology in SQL: slides in, tumor heatmaps out. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


app.command(**example("histolake ingest 'slides/*.tif' --annotations 'slides/*.xml' --lake data"))(cli_ingest.ingest)


@app.command(**example("histolake run --patch-px 96 --mpp 0.972 --slide 'tumor_*'"))
def run(
    stage: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only these stages; optional ones too.")
    ] = None,
    slide: Slides = None,
    region: Region = None,
    patch_px: Annotated[int | None, typer.Option(help="Edge of a patch, px; by default the encoder's input.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Resolution to read at, microns per px; by default 0.5.")] = None,
    stride_px: Annotated[int | None, typer.Option(help="Step of the grid, px; by default the patch's edge.")] = None,
    min_tissue: Annotated[float | None, typer.Option(help="Smallest tissue fraction kept; by default 0.1.")] = None,
    tissue_od: Annotated[
        float | None, typer.Option(help="Least optical density above glass that is tissue; by default 0.05.")
    ] = None,
    at_centres: Annotated[
        bool, typer.Option("--at-centres", help="Patches at annotated points, not on a grid.")
    ] = False,
    allow_upsampling: Annotated[
        bool, typer.Option("--allow-upsampling", help="Read slides that are coarser than --mpp all the same.")
    ] = False,
    label_rule: Annotated[
        str | None, typer.Option(help="centre (of the patch is in tumor), covered>=F, or points.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Name or encoder_id; auto keeps the lake's.")] = None,
    image_format: Annotated[str, typer.Option(help="Of --stage patch_images: jpeg or png.")] = "jpeg",
    retry_failed: RetryFailed = False,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = 0.0,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Find patches, label them, embed them. Only what is missing is done."""
    from lake import engines, places, session, workflow

    root = lake_path(lake)
    area = places.area_named(root, region, _only(slide)) if region else None
    wanted = workflow.Wanted(
        slides=tuple(slide or ()),
        stages=tuple(stage or ()),
        patch_px=patch_px,
        mpp=mpp,
        stride_px=stride_px,
        min_tissue=min_tissue,
        tissue_od=tissue_od,
        allow_upsampling=allow_upsampling,
        at_centres=at_centres,
        region=area,
        encoder=encoder,
        label_rule=label_rule,
        image_format=image_format,
        retry_failed=retry_failed,
    )
    with engines.executor(Engine(engine, address, cpus_per_worker, gpus_per_worker)) as executor:
        choice, summaries = workflow.run(root, wanted, run_id=_run_id(), executor=executor, progress=_progress())
    if not as_json:
        say(f"encoder {choice.encoder.encoder_id}: {choice.why}")
        say(f"patches {choice.patch_set}, labels by {choice.label_rule}")
        if provider := session.providers.get(choice.encoder.encoder_id):
            say(f"embedded in {choice.encoder.precision} by {provider}")
    finish(summaries, as_json)


@app.command(**example("histolake train --lake data"))
def train(
    encoder: Annotated[str | None, typer.Option(help="Name or encoder_id; by default the lake's.")] = None,
    patch_set: Annotated[str | None, typer.Option(help="Tiling; needed where the lake has several.")] = None,
    label_rule: Annotated[str | None, typer.Option(help="As for run.")] = None,
    head: Annotated[str, typer.Option(help=f"Kind of classifier: {', '.join(HEADS)}.")] = "logistic",
    calibration: Annotated[
        str, typer.Option(help=f"Of probabilities, on validation slides: none, {', '.join(CALIBRATIONS)}.")
    ] = "none",
    protocol: Annotated[
        str, typer.Option(help="by_slide, or patch_random: draw patches of all slides, to see how leakage flatters.")
    ] = "by_slide",
    with_reviews: Annotated[
        bool, typer.Option("--with-reviews", help="Reviewers' verdicts replace labels; patches in doubt are left out.")
    ] = False,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Shards of the training set on Ray, at most; else as many as it has room for."),
    ] = None,
    cpus_per_worker: CpusPerWorker = 1,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Fit the patch classifier on the training slides and make it the champion."""
    from lake import engines, workflow
    from lake import train as training
    from lake.recipe import Recipe

    root, run_id = lake_path(lake), _run_id()
    choice = workflow.choose_trained(root, encoder=encoder, patch_set=patch_set, label_rule=label_rule, run_id=run_id)
    recipe = Recipe(
        choice.patch_set,
        choice.encoder.encoder_id,
        choice.label_rule,
        head=head,
        calibration=calibration,
        protocol=protocol,
        with_reviews=with_reviews,
    )
    where = Engine(engine, address, cpus_per_worker)
    with engines.reader(where, workers) as read, stderr.status(f"training on {choice.patch_set}"):
        trained = training.train(root, recipe, run_id=run_id, read=read)
    if as_json:
        print_json(vars(trained))
        return
    if trained.is_champion:
        say(f"model {trained.model_id} ({trained.uri}) is the champion")
    else:
        say(f"model {trained.model_id} ({trained.uri}) is no champion: it was trained on patches of test slides too")
    if trained.is_new:
        print_table(("metric", "value"), sorted(trained.metrics.items()))
        say(f"a patch counts as tumor from a probability of {trained.threshold:.4g} on")
    else:
        say("nothing to do: it is the model that these tables give")


@app.command(**example("histolake predict --slide tumor_001"))
def predict(
    model: Model = None,
    slide: Slides = None,
    region: Region = None,
    retry_failed: RetryFailed = False,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = 0.0,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Give every embedded patch its probability of tumor."""
    from lake import engines, places, workflow

    root = lake_path(lake)
    area = places.area_named(root, region, _only(slide)) if region else None
    with engines.executor(Engine(engine, address, cpus_per_worker, gpus_per_worker)) as executor:
        row, summaries = workflow.predict(
            root,
            model=model,
            slides=tuple(slide or ()),
            region=area,
            retry_failed=retry_failed,
            run_id=_run_id(),
            executor=executor,
            progress=_progress(),
        )
    if not as_json:
        say(f"model {row['model_id']} of {row['encoder_id']}")
    finish(summaries, as_json)


app.command(**example("histolake evaluate --json"))(cli_evaluate.evaluate)


@app.command(**example("histolake demo --folder demo"))
def demo(
    folder: Annotated[Path, typer.Option(help="For the synthetic slides, the lake and the heatmaps.")] = Path("demo"),
    trace: Trace = False,
) -> None:
    """Run the whole workflow on synthetic slides made for it, in a few minutes."""
    from lake import demo as demonstration

    demonstration.demo(folder, _progress())


cli_fetch.add_to(app)
cli_pseudonyms.add_to(app)
cli_export.add_to(app)
cli_models.add_to(app)
cli_lake.add_to(app)
cli_upkeep.add_to(app)
cli_trace.add_to(app)
cli_review.add_to(app)
cli_annotations.add_to(app)
cli_audit.add_to(app)
cli_people.add_to(app)
cli_doctor.add_to(app)


def _only(slides: list[str] | None) -> str | None:
    return slides[0] if slides and len(slides) == 1 else None


def _run_id() -> str:
    from lake.store import new_run_id

    return new_run_id()


def _progress() -> Any:
    from lake.progress import Progress

    return Progress()


def main() -> None:
    """Run the command line; errors that a user can mend are one line on stderr, exit status 1."""
    try:
        app()
    except HistolakeError as error:
        if cli_lake.is_tracing():
            raise
        _fail(str(error))
    except SystemExit as end:
        if end.code == INTERRUPTED:  # so Typer ends on Ctrl-C
            say(STOPPED)
        raise
    except BaseException as error:  # also a panic of Polars, which is no Exception
        told = str(error)
        if told == "Query interrupted" or "executing the UDF: KeyboardInterrupt" in told:  # so DuckDB puts Ctrl-C
            say(STOPPED)
            sys.exit(INTERRUPTED)
        failure = read_failure(error) or shortage(error)  # within DuckDB, whose errors are not imported here
        if failure is None or cli_lake.is_tracing():
            raise
        _fail(str(failure))


def _fail(why: str) -> NoReturn:
    sentence = f"histolake: {why}"
    try:
        say(sentence)
    except MemoryError:  # printing it as others takes some, too
        sys.stderr.write(f"{sentence}\n")
    sys.exit(1)
