"""The command `ingest`: slides and annotations, registered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lake.choices import Engine, EngineName, lake_path
from lake.cli_options import Address, AsJson, CpusPerWorker, EngineOption, GpusPerWorker, Lake, RetryFailed, Trace
from lake.cli_output import finish
from udfs.addresses import KEY_VARIABLE


def ingest(
    slides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SLIDES]...", help="Slide files, folders, patterns, or addresses: s3://, https://."),
    ] = None,
    annotations: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="ASAP XML, QuPath GeoJSON or NCRF JSON, named like its slide."),
    ] = None,
    coords_tumor: Annotated[
        list[Path] | None, typer.Option(metavar="CSV", help="Centres of tumor patches: slide,x,y at level 0.")
    ] = None,
    coords_normal: Annotated[
        list[Path] | None, typer.Option(metavar="CSV", help="Centres of normal patches: slide,x,y at level 0.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns slide_id, path, patient_id, split, label, mpp.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test, where the manifest says nothing.")
    ] = None,
    pseudonymize: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar=KEY_VARIABLE,
            help="Keep the names of slides, patients and files out of the lake: in this key file, made if need be.",
        ),
    ] = None,
    retry_failed: RetryFailed = False,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = 0.0,
    as_json: AsJson = False,
    lake: Lake = None,
    trace: Trace = False,
) -> None:
    """Register slides and annotations. What is known and unchanged is left alone."""
    from lake import engines
    from lake import ingest as ingestion
    from lake.progress import Progress
    from lake.store import new_run_id
    from udfs import pseudonyms

    sources = ingestion.Sources(
        tuple(slides or ()),
        tuple(annotations or ()),
        tuple(coords_tumor or ()),
        tuple(coords_normal or ()),
        manifest,
        split,
        None if pseudonymize is None else pseudonymize.expanduser().absolute(),
    )
    with (
        pseudonyms.using(sources.key_file),
        engines.executor(Engine(engine, address, cpus_per_worker, gpus_per_worker)) as executor,
    ):
        summaries = ingestion.ingest(
            lake_path(lake),
            sources,
            run_id=new_run_id(),
            retry_failed=retry_failed,
            executor=executor,
            progress=Progress(),
        )
    finish(summaries, as_json)
