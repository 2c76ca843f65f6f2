"""Seconds and memory from an unseen slide to its heatmap, and what a whole training set would take.

Every command is a process of its own, so that imports, sessions and caches are cold; the slide's file, just written, is
in the system's memory. Steps are timed by their commands.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import networks
import race
import report
import slides
from race import Figure
from speed_crop import MPP

from lake import creation, encoders, session, store
from lake.synthetic import write_slides
from udfs.encoders.sessions import providers

ENCODER, PX = "efficientnet_lite0", 224
QUICKER = "efficientnet_lite0_int8"
REFERENCE, REFERENCE_PX = "inception_v3", 299
QUICKER_REFERENCE = "inception_v3_int8"
PATCHES = 10_000
MANY = 20_000  # stands for 100,000, which take a quarter of an hour and more
HEADLINE = 174_000  # patches of a training set
MEASURED, MEASURED_SLOWLY = 20_000, 2_000  # that are embedded for the extrapolation, in bf16 and without
MINUTES = 35
TISSUE = 0.655  # of the square slides
GB = 1e9


@dataclass(frozen=True)
class Scored:
    """What a slide took: each command's process, and how many patches were scored."""

    ran: dict[str, race.Ran]
    patches: int

    @property
    def seconds(self) -> float:
        """All commands together."""
        return sum(each.seconds for each in self.ran.values())

    @property
    def peak(self) -> float:
        """Memory of the hungriest command, GB."""
        return max(each.peak for each in self.ran.values()) / GB


def measure(folder: Path) -> list[Figure]:
    """A slide of 10,000 patches, in fp32 and in int8, one of many more, and the features of a training set."""
    piece = slides.real_piece()
    with_model = lake_with_model(folder)
    few, many = (score(folder, with_model, piece, count) for count in (PATCHES, MANY))
    quicker = score(folder, lake_with_model(folder, QUICKER), piece, PATCHES)
    has_amx = "AMX" in report.instructions()
    peaks = ", ".join(f"{name} {each.peak / GB:.2f}" for name, each in few.ran.items())
    bar = 30 if has_amx else 60
    stands_for = f"{many.seconds:.0f} s; stands for 100,000 patches; memory must be within 20 % of the smaller slide's"
    return [
        *(
            Figure(
                f"unseen slide to heatmap, {scored.patches:,} patches, {encoder}",
                "s",
                scored.seconds,
                at_most=bar,
                note=", ".join(f"{name} {each.seconds:.1f} s" for name, each in scored.ran.items()),
            )
            for encoder, scored in ((ENCODER, few), (QUICKER, quicker))
        ),
        Figure("its peak memory", "GB", few.peak, at_most=1.5, note=f"{peaks}; {piece.about}"),
        Figure(
            f"peak memory of {many.patches:,} patches",
            "GB",
            many.peak,
            at_most=1.2 * few.peak,
            note=stands_for,
        ),
        *_headlines(folder, piece),
    ]


def lake_with_model(folder: Path, encoder: str = ENCODER) -> Path:
    """A lake with a model, trained on the demo's generated slides."""
    root = folder / f"with-model-{encoder}"
    if not root.exists():
        write_slides(folder / "training", slides=4)
        training = str(folder / "training")
        _histolake(root, "ingest", training, "--annotations", training)
        _histolake(root, "run", "--encoder", encoder)
        _histolake(root, "train")
    return root


def score(folder: Path, with_model: Path, piece: slides.Piece, patches: int) -> Scored:
    """Take a new slide of about so many patches from its file to a heatmap, in a copy of the lake."""
    root, slide = folder / f"lake-{patches}", _slide(folder, piece, patches, PX)
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(with_model, root)
    picture = str(folder / f"{slide.stem}.png")
    ran = {
        "ingest": _histolake(root, "ingest", str(slide), "--split", "test"),
        "run": _histolake(root, "run", "--slide", slide.stem),
        "predict": _histolake(root, "predict", "--slide", slide.stem),
        "heatmap": _histolake(root, "heatmap", slide.stem, "--out", picture),
    }
    scored = _count(root, "current_predictions", slide.stem)
    return Scored(ran, scored)


def _slide(folder: Path, piece: slides.Piece, patches: int, px: int) -> Path:
    """A slide with about so many tissue patches of px x px."""
    path = folder / f"slide-{patches}-{px}.tif"
    if not path.exists():
        edge = math.ceil(math.sqrt(patches / TISSUE) * px / slides.TILE_PX) * slides.TILE_PX
        slides.write_slide(path, piece, edge, edge, slides.in_islands(edge, edge), MPP)
    return path


def _headlines(folder: Path, piece: slides.Piece) -> list[Figure]:
    """Minutes for the features of a training set and for training: in bf16 where that is had, else in fp32 and int8."""
    if providers("bf16"):
        return [_headline(folder, piece, REFERENCE, "bf16", MEASURED)]
    ways = ((REFERENCE, "fp32"), (QUICKER_REFERENCE, "int8"))
    return [_headline(folder, piece, name, precision, MEASURED_SLOWLY) for name, precision in ways]


def _headline(folder: Path, piece: slides.Piece, name: str, precision: str, measured: int) -> Figure:
    """Minutes by one encoder: its features extrapolated from those of some patches."""
    spec, file, weights = networks.prepare(name, folder, precision)
    root, slide = folder / f"lake-headline-{precision}", _slide(folder, piece, measured, REFERENCE_PX)
    shutil.rmtree(root, ignore_errors=True)
    creation.create(root)
    encoders.add(root, spec, file, store.new_run_id())
    _histolake(root, "ingest", str(slide))
    patching = _histolake(root, "run", "--stage", "patches", "--encoder", spec.encoder_id)
    embedding = _histolake(root, "run", "--stage", "features", "--encoder", spec.encoder_id)
    patches = _count(root, "slide_features", slide.stem)
    pace = (patching.seconds + embedding.seconds) / patches
    training = _training()
    note = (
        f"{precision}, extrapolated from {patches:,} patches of {REFERENCE_PX} px, {race.amount(1 / pace)} a second, "
        f"{weights}; "
        + ("without training, which was not measured" if training is None else f"training, measured: {training:.0f} s")
    )
    what = f"{HEADLINE:,} patches cropped, {name} features, trained"
    at_most = MINUTES if "AMX" in report.instructions() else None
    return Figure(what, "minutes", (HEADLINE * pace + (training or 0)) / 60, at_most=at_most, note=note)


def _training() -> float | None:
    """Seconds that part `train` measured for the same number of patches, if it did."""
    kept = report.ROOT / "bench" / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for figure in results.get("train", {}).get("figures", []):
        if figure["what"].startswith("`histolake train`") and figure["what"].endswith("logistic"):
            return float(figure["value"])
    return None


def _count(root: Path, view: str, slide_id: str) -> int:
    with session.connect(root, udfs=()) as con:
        rows = con.table(view).filter(duckdb.ColumnExpression("slide_id") == duckdb.ConstantExpression(slide_id))
        return int(rows.shape[0])


def _histolake(root: Path, *words: str) -> race.Ran:
    arguments: Sequence[str] = ("-m", "lake", *words, "--lake", str(root))
    return race.in_process(arguments)
