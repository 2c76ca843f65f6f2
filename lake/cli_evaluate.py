"""The command `evaluate`: numbers with intervals, and all that is behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lake.choices import Engine, EngineName, Peaks, lake_path
from lake.cli_options import (
    Address,
    AsJson,
    CpusPerWorker,
    EngineOption,
    GpusPerWorker,
    Lake,
    Model,
    RetryFailed,
    Trace,
)
from lake.cli_output import print_json, print_table, say

if TYPE_CHECKING:
    from lake.evaluate import Evaluation

SPLITS = ("train", "validation", "test")
MODEL_FACTS = (
    *("model_id", "uri", "encoder_id", "patch_set", "label_rule", "head", "protocol"),
    *("calibration", "threshold", "mlflow_run_id"),
)
COUNTS = {
    *("patches", "tp", "fp", "tn", "fn"),
    *("slides", "tumor_slides", "normal_slides"),
    *("lesions", "lesions_found", "itcs", "false_positives"),
}


def evaluate(
    model: Model = None,
    detection_radius_um: Annotated[
        float, typer.Option(help="Least distance between two detections, microns.")
    ] = Peaks.radius_um,
    smoothing_um: Annotated[
        float, typer.Option(help="Standard deviation that heatmaps are smoothed with, microns; 0 for none.")
    ] = Peaks.smoothing_um,
    lesion_mpp: Annotated[
        float | None, typer.Option(help="Microns per px of all slides in the lesion task; by default each slide's own.")
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
    """Measure the predictions by patch, slide and lesion, and store the numbers with their 95 % intervals."""
    from lake import engines
    from lake import evaluate as evaluation
    from lake.progress import Progress
    from lake.store import new_run_id

    with engines.executor(Engine(engine, address, cpus_per_worker, gpus_per_worker)) as executor:
        result = evaluation.evaluate(
            lake_path(lake),
            model=model,
            peaks=Peaks(radius_um=detection_radius_um, smoothing_um=smoothing_um),
            lesion_mpp=lesion_mpp,
            retry_failed=retry_failed,
            run_id=new_run_id(),
            executor=executor,
            progress=Progress(),
        )
    if as_json:
        print_json(as_dictionary(result))
        return
    print_metrics(result)
    print_protocols(result)


def as_dictionary(result: Evaluation) -> dict[str, Any]:
    """For programs: {scope: {split: {name: {value, low, high}}}} beside the model and what is behind each scope."""
    facts: dict[str, Any] = {
        "model": {name: result.model[name] for name in MODEL_FACTS},
        "parameters": {},
        "table_versions": {},
        "left_out": list(result.left_out),
        "protocols": result.protocols.to_dicts(),
    }
    for row in result.metrics.to_dicts():
        scope = row["scope"]
        number = {name: row[name] for name in ("value", "low", "high")}
        facts.setdefault(scope, {}).setdefault(row["split"], {})[row["name"]] = number
        facts["parameters"][scope] = json.loads(row["parameters"])
        facts["table_versions"][scope] = json.loads(row["table_versions"])
    return facts


def print_metrics(result: Evaluation) -> None:
    """A table for each scope, with what is behind it; then what was left out, and why."""
    model = result.model
    say(f"model {model['model_id']} ({model['head']}, calibration {model['calibration']}) of {model['encoder_id']}")
    say(f"trained {model['protocol']} on {model['patch_set']}, MLflow run {model['mlflow_run_id']}")
    for (scope,), rows in result.metrics.group_by("scope", maintain_order=True):
        numbers = {(row["name"], row["split"]): row for row in rows.to_dicts()}
        splits = [split for split in SPLITS if split in rows["split"]]
        names = rows["name"].unique(maintain_order=True)
        cells = [(name, *(_number(name, numbers.get((name, split))) for split in splits)) for name in names]
        print_table((f"{scope} metric", *splits), cells)
        say(f"{_listed(rows['parameters'][0])}; tables {_listed(rows['table_versions'][0])}")
    for sentence in result.left_out:
        say(sentence)


def print_protocols(result: Evaluation) -> None:
    """The test patches by both protocols side by side; without them, how to get them."""
    rows = result.protocols.filter(split="test").to_dicts()
    if rows:
        print_table(
            ("patch metric, test", "by slide", "patch random", "difference"),
            [
                (
                    row["name"],
                    _number(row["name"], _side(row, "by_slide")),
                    _number(row["name"], _side(row, "patch_random")),
                    f"{row['difference']:+.3f}" if row["difference"] is not None else None,
                )
                for row in rows
                if row["name"] not in COUNTS
            ],
        )
        other = rows[0]["patch_random_model_id"]
        say(
            f"patch random: model {other} has seen other patches of the slides that it is tested on; what such leakage "
            "flatters is in the difference, and only the numbers by slide tell what to expect of a new slide"
        )
        if not all(row["is_comparable"] for row in rows):
            say(f"the lake has changed since {other} was measured: `histolake evaluate --model {other}` does it again")
    elif result.model["protocol"] == "by_slide":
        say(
            "to see how much leakage would flatter: `histolake train --protocol patch_random`, then predict and "
            "evaluate with --model of what it made, and evaluate again"
        )


def _side(row: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    return {"value": row[protocol], "low": row[f"{protocol}_low"], "high": row[f"{protocol}_high"]}


def _number(name: str, row: Mapping[str, Any] | None) -> str | None:
    """A count as it is; else the value and its interval."""
    if row is None or row["value"] is None:
        return None
    if name in COUNTS:
        return f"{row['value']:,.0f}"
    interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{interval}"


def _listed(text: str) -> str:
    """A JSON object as words."""
    return ", ".join(f"{name} {value:g}" for name, value in json.loads(text).items() if value is not None)
