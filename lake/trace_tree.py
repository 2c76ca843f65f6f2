"""An explanation as a tree for the terminal: each thing below what was made from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from lake.sql_files import relations_read, stages

Facts = Mapping[str, Any]

CLASS = {1: "tumor", 0: "normal"}


def tree(found: Facts, root: Path) -> Tree:
    """The tree of what `trace.explain` found."""
    patch, ledger = found["patch"], _Ledger(found["ledger"], root)
    top = Tree(Text(f"patch of {patch['slide_id']} at {patch['x']}, {patch['y']}", "bold"))
    prediction = _add(top, "prediction", _prediction(found["prediction"]))
    _add(prediction, "label", _label(found["label"], found["prediction"]))
    if found["review"]["verdict"]:
        _add(prediction, "review", _review(found["review"]))
    ledger.add(prediction, "predictions")
    _add_model(prediction, found, ledger)
    feature = _add(prediction, "features", f"{found['feature']['dims']} numbers by {found['feature']['encoder_id']}")
    ledger.add(feature, "features")
    _add_encoder(feature, found["encoder"], ledger)
    tiles = _add(feature, "patch", _patch(patch, found["patch_set"]))
    ledger.add(tiles, "patches")
    _add_slide(tiles, found["slide"], ledger)
    if found["label"]["annotation_hash"]:
        ledger.add(prediction.children[0], "labels")
        ledger.add(prediction.children[0], "annotations")
    return top


class _Ledger:
    """Adds the ledger's entries of a stage below what the stage made."""

    def __init__(self, entries: Facts, root: Path) -> None:
        self._entries = entries
        self._reads = {name: relations_read(stage, root) for name, stage in stages(root).items()}

    def add(self, branch: Tree, stage: str) -> None:
        for entry in self._entries.get(stage, ()):
            source = f"{entry['identity']['source']}, " if "source" in entry["identity"] else ""
            read = {
                name: number
                for name, number in entry["input_versions"].items()
                if name in self._reads.get(stage, set())
            }
            after = f", from {_versions(read)}" if read else ""
            number = entry["table_version"]
            result = "nothing new" if number is None else f"{stage} version {number}"
            _add(
                branch,
                "written",
                f"{source}{result}, run {entry['run_id']} at {entry['finished_at']:%Y-%m-%d %H:%M:%S} UTC, "
                f"histolake {entry['code_version']}{after}",
            )


def _add(branch: Tree, name: str, text: str) -> Tree:
    return branch.add(Text.assemble((f"{name}  ", "bold"), text))


def _prediction(facts: Facts) -> str:
    side = "reaches" if facts["decision"] == "tumor" else "is below"
    seen = "; the model was trained on this slide: it is surer of it" if facts["is_trained_on"] else ""
    return (
        f"{facts['decision']}: probability {facts['probability']:.4f} {side} the threshold {facts['threshold']:g}; "
        f"number {facts['position']} of the slide's {facts['patches']:,} patches{seen}"
    )


def _label(label: Facts, prediction: Facts) -> str:
    if label["label"] is None:
        return "none: the annotations do not tell"
    name = CLASS[label["label"]]
    relation = "as predicted" if name == prediction["decision"] else "the prediction disagrees"
    return f"{name} by the rule '{label['label_rule']}', {relation}; annotations {label['annotation_hash']}"


def _review(review: Facts) -> str:
    note = f": {review['note']}" if review["note"] else ""
    return f"{review['verdict']} by {review['reviewer']} at {review['reviewed_at']:%Y-%m-%d %H:%M:%S} UTC{note}"


def _add_model(branch: Tree, found: Facts, ledger: _Ledger) -> None:
    model, training = found["model"], found["training_set"]
    node = _add(
        branch,
        "model",
        f"{model['model_id']}: {model['head']}, calibration {model['calibration']}, "
        f"threshold {found['prediction']['threshold']:g}; {model['uri']}, MLflow run {model['mlflow_run_id']}; "
        f"trained {model['trained_at']:%Y-%m-%d %H:%M:%S} UTC by histolake {model['code_version']}",
    )
    ledger.add(node, "models")
    node = _add(
        node,
        "training set",
        f"protocol {model['protocol']}, labels by the rule '{model['label_rule']}', patches {model['patch_set']}; "
        f"{_versions(training['versions'])}",
    )
    for split in training["splits"] or ():
        _add(
            node,
            split["split"],
            f"{split['slides']:,} slides, {split['patches']:,} patches, {split['tumor_patches']:,} of them tumor",
        )
    if training["gone"]:
        _add(node, "gone", training["gone"])


def _add_encoder(branch: Tree, encoder: Facts, ledger: _Ledger) -> None:
    node = _add(
        branch,
        "encoder",
        f"{encoder['encoder_id']}: {encoder['name']} in {encoder['precision']}, {encoder['input_px']} px in, "
        f"{encoder['dims']} numbers out; preprocessing {encoder['preprocessing']}; sha256 {encoder['sha256']}; "
        f"from {encoder['source']}",
    )
    ledger.add(node, "encoders")


def _patch(patch: Facts, tiling: Facts) -> str:
    step = f", one every {tiling['stride_px']} px" if tiling["stride_px"] else ""
    tissue = "" if patch["tissue"] is None else f", {patch['tissue']:.0%} tissue"
    return (
        f"{patch['span_x']:g} x {patch['span_y']:g} px of level 0{tissue}; "
        f"{tiling['patch_set']}: {tiling['tiling']} of {tiling['patch_px']} px "
        f"at {tiling['mpp']:g} microns per px{step}"
    )


def _add_slide(branch: Tree, slide: Facts, ledger: _Ledger) -> None:
    patient = f", patient {slide['patient_id']}" if slide["patient_id"] else ""
    node = _add(
        branch,
        "slide",
        f"{slide['path']}: {slide['vendor']}, {slide['width']} x {slide['height']} px, "
        f"{slide['mpp_x']:g} x {slide['mpp_y']:g} microns per px (from the {slide['mpp_source']}); "
        f"split {slide['split']}{patient}; fingerprint {slide['fingerprint']}",
    )
    ledger.add(node, "slides")


def _versions(versions: Facts) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
