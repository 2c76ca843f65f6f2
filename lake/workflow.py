"""What the commands do: choose tiling, encoder and model, then run the stages that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lake import encoders, models, session, store, tiling
from lake.pipeline import Summary, run_stage
from lake.progress import Progress
from lake.sql_files import Stage, query, stages
from lake.tiling import Tiling
from lake.worker import Executor, local
from udfs.encoders.encoder import EncoderSpec
from udfs.errors import HistolakeError, ModelError, shortened
from udfs.slide import Area

DEFAULT_MPP = 0.5
ELSEWHERE = ("slides", "annotations", "predictions", "detections")  # stages of other commands; `run` runs the rest
LABEL_RULE = "centre"


@dataclass(frozen=True)
class Wanted:
    """What a user asked `run` for; None where nothing was said."""

    slides: Sequence[str] = ()
    stages: Sequence[str] = ()
    patch_px: int | None = None
    mpp: float | None = None
    stride_px: int | None = None
    min_tissue: float | None = None
    tissue_od: float | None = None
    allow_upsampling: bool = False
    at_centres: bool = False
    region: Area | None = None
    encoder: str | None = None
    label_rule: str | None = None
    image_format: str = "jpeg"
    retry_failed: bool = False

    @property
    def asks_for_tiling(self) -> bool:
        """Whether any option of the tiling was given."""
        given = (self.patch_px, self.mpp, self.stride_px, self.min_tissue, self.tissue_od, self.region)
        return any(value is not None for value in given) or self.allow_upsampling or self.at_centres


@dataclass(frozen=True)
class Choice:
    """What a run works on, and why it is that encoder."""

    patch_set: str
    encoder: EncoderSpec
    why: str
    label_rule: str


def run(
    root: Path, wanted: Wanted, *, run_id: str, executor: Executor = local, progress: Progress | None = None
) -> tuple[Choice, list[Summary]]:
    """Run all stages between ingest and training, or those asked for, on the slides asked for.

    Raises HistolakeError when no slide matches, or a stage is not known.
    """
    with session.connect(root, udfs=()) as con:
        slides = [row[0] for row in con.execute("select slide_id from slides order by slide_id").fetchall()]
        glob = "select count(*) from slides where slide_id glob $pattern"
        if not slides:
            raise HistolakeError(f"{root}: no slides yet; register some with `histolake ingest`")
        for pattern in wanted.slides:
            if con.execute(glob, {"pattern": pattern}).fetchall() == [(0,)]:
                raise HistolakeError(f"--slide {pattern}: no slide matches; slides are {_listed(slides)}")
    known = {name: each for name, each in stages(root).items() if name not in ELSEWHERE}
    selected = _selected(known, wanted.stages)
    choice = choose(root, wanted, run_id)
    is_points = choice.label_rule == "points"
    parameters: dict[str, Any] = {
        "patch_set": choice.patch_set,
        "encoder_id": choice.encoder.encoder_id,
        "input_px": choice.encoder.input_px,
        "label_rule": choice.label_rule,
        "min_covered": _min_covered(choice.label_rule),
        "kind": "point" if is_points else "area",
        "image_format": wanted.image_format,
    }
    summaries = [
        run_stage(
            root,
            stage,
            parameters,
            run_id=run_id,
            slides=wanted.slides,
            retry_failed=wanted.retry_failed,
            executor=executor,
            progress=progress,
        )
        for stage in selected
    ]
    return choice, summaries


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _selected(known: Mapping[str, Stage], asked: Iterable[str]) -> list[Stage]:
    asked = list(asked)
    for name in asked:
        if name not in known:
            raise HistolakeError(f"--stage {name}: no such stage; stages are {', '.join(known)}")
    return [each for name, each in known.items() if name in asked or (not asked and not each.is_optional)]


def choose(root: Path, wanted: Wanted, run_id: str) -> Choice:
    """Settle encoder and tiling, and write to the lake what is new of them."""
    encoder, why = encoders.choose(root, wanted.encoder, run_id)
    if wanted.asks_for_tiling:
        patch_set = tiling.register(root, _tiling(wanted, encoder), run_id)
    else:
        patch_set = existing_patch_set(root) or tiling.register(root, _tiling(wanted, encoder), run_id)
    return Choice(patch_set, encoder, why, rule_named(wanted.label_rule, patch_set))


def choose_trained(
    root: Path, *, encoder: str | None, patch_set: str | None, label_rule: str | None, run_id: str
) -> Choice:
    """What to train on: what was named, else the champion's, else the lake's only choice.

    Raises HistolakeError listing the choices when there are several, and when there is nothing yet.
    """
    with session.connect(root, udfs=()) as con:
        used = con.execute(query("pipeline/embedded")).fetchall()
    if not used:
        raise ModelError(f"{root}: no features to train on; make them with `histolake run`")
    sets = sorted({name for name, _ in used})
    name = patch_set or existing_patch_set(root)
    if name is None or name not in sets:
        raise HistolakeError(f"--patch-set {name}: has no features; patch sets with features are {', '.join(sets)}")
    spec, why = encoders.choose(root, encoder, run_id)
    return Choice(name, spec, why, rule_named(label_rule, name))


def rule_named(asked: str | None, patch_set: str) -> str:
    """The label rule of that name, else the one that suits the patch set. Raises HistolakeError for another."""
    rule = asked or ("points" if patch_set.startswith("centres-") else LABEL_RULE)
    return rule if rule in (LABEL_RULE, "points") else f"covered>={_min_covered(rule):g}"


def _tiling(wanted: Wanted, encoder: EncoderSpec) -> Tiling:
    given = {name: getattr(wanted, name) for name in ("stride_px", "min_tissue", "tissue_od", "region")}
    return Tiling(
        patch_px=encoder.input_px if wanted.patch_px is None else wanted.patch_px,
        mpp=DEFAULT_MPP if wanted.mpp is None else wanted.mpp,
        tiling="centres" if wanted.at_centres else "grid",
        allow_upsampling=wanted.allow_upsampling,
        **{name: value for name, value in given.items() if value is not None},
    )


def _min_covered(rule: str) -> float | None:
    if rule in (LABEL_RULE, "points"):
        return None
    try:
        fraction = float(rule.removeprefix("covered>="))
    except ValueError:
        fraction = -1.0
    if not rule.startswith("covered>=") or not 0 < fraction <= 1:
        raise HistolakeError(
            f"--label-rule {shortened(rule)}: must be centre, points or covered>=F with F above 0 up to 1"
        )
    return fraction


def existing_patch_set(root: Path) -> str | None:
    """The tiling meant when none is named: the champion's, else the lake's only one; None without any.

    Raises HistolakeError listing the choices when there are several.
    """
    model_id = models.champion(root)
    if model_id:
        return str(models.find(root, model_id)["patch_set"])
    names = store.rows(root, "patch_sets")["patch_set"].to_list()
    if len(names) > 1:
        raise HistolakeError(
            f"which patches? say --patch-px and --mpp, or --patch-set; there are {', '.join(sorted(names))}"
        )
    return names[0] if names else None


def predict(
    root: Path,
    *,
    model: str | None = None,
    slides: Sequence[str] = (),
    region: Area | None = None,
    retry_failed: bool = False,
    run_id: str,
    executor: Executor = local,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], list[Summary]]:
    """Score every patch set that the model may score (only that of `region`, if given); returns the model's row.

    Raises ModelError when the lake has no features that the model takes.
    """
    row = models.find(root, model)
    with session.connect(root, udfs=()) as con:
        found = con.execute(
            "select patch_set from patch_sets where patch_px = $px and mpp = $mpp "
            "and ($x is null or (region_x = $x and region_y = $y and region_width = $w and region_height = $h)) "
            "order by patch_set",
            {"px": row["patch_px"], "mpp": row["mpp"]}
            | dict(
                zip("xywh", (region.x, region.y, region.width, region.height) if region else (None,) * 4, strict=True)
            ),
        ).fetchall()
        used = con.execute(query("pipeline/embedded")).fetchall()
    patch_sets = [name for (name,) in found if (name, row["encoder_id"]) in used]
    if not patch_sets:
        listing = ", ".join(f"{name} by {encoder}" for name, encoder in used) or "none"
        raise ModelError(
            f"model {row['model_id']} takes features of {row['encoder_id']} on {row['patch_px']} px patches at "
            f"{row['mpp']:g} microns per pixel{' of that region' if region else ''}; the lake has {listing}; "
            "make them with `histolake run`"
        )
    stage = stages(root)["predictions"]
    summaries = []
    for patch_set in patch_sets:
        parameters = {"patch_set": patch_set, "encoder_id": row["encoder_id"], "model_id": row["model_id"]}
        done = run_stage(
            root,
            stage,
            parameters,
            run_id=run_id,
            slides=slides,
            retry_failed=retry_failed,
            executor=executor,
            progress=progress,
        )
        summaries.append(done if len(patch_sets) == 1 else replace(done, stage=f"predictions on {patch_set}"))
    return row, summaries
