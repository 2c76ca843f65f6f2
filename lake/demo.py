"""The whole workflow on synthetic slides: what a newcomer sees first."""

from __future__ import annotations

import time
from pathlib import Path

from lake import evaluate, ingest, pictures, session, store, train, workflow
from lake.choices import lake_path
from lake.cli_evaluate import print_metrics
from lake.cli_output import print_summaries, say, stderr
from lake.pipeline import Summary
from lake.progress import Progress
from lake.recipe import Recipe
from lake.synthetic import write_slides
from udfs.errors import HistolakeError

SLIDES = 10
PATCH_PX, MPP = 160, 0.5
QUERY = "select slide_id, max(probability) from current_predictions group by all"


def demo(folder: Path, progress: Progress) -> None:
    """Make slides, run every stage, train, score, evaluate and draw; say where everything is.

    Raises HistolakeError when a stage failed on a slide that was made for it.
    """
    root, slides, pictures_in = lake_path(folder / "lake"), folder / "slides", folder / "heatmaps"
    run_id, start = store.new_run_id(), time.monotonic()
    if not slides.is_dir():
        say(f"making {SLIDES} synthetic slides, which show no real tissue, in {slides}")
        write_slides(slides, slides=SLIDES)
    sources = ingest.Sources((str(slides),), (str(slides),))
    summaries = ingest.ingest(root, sources, run_id=run_id, progress=progress)
    choice, of_run = workflow.run(root, workflow.Wanted(patch_px=PATCH_PX, mpp=MPP), run_id=run_id, progress=progress)
    provider = session.providers.get(choice.encoder.encoder_id)
    say(f"encoder {choice.encoder.encoder_id}{f' by {provider}' if provider else ''}: {choice.why}")
    began = time.monotonic()
    with stderr.status("training"):
        recipe = Recipe(choice.patch_set, choice.encoder.encoder_id, choice.label_rule)
        trained = train.train(root, recipe, run_id=run_id)
    patches = int(sum(trained.metrics.get(f"train_{name}", 0) for name in ("tp", "fp", "tn", "fn")))
    of_training = Summary("train", int(trained.is_new), patches, time.monotonic() - began)
    _, of_predict = workflow.predict(root, run_id=run_id, progress=progress)
    measured = evaluate.evaluate(root, run_id=run_id)
    summaries += [*of_run, of_training, *of_predict]
    print_summaries(summaries)
    if any(each.failures for each in summaries):
        raise HistolakeError(f"the demo failed; delete {folder} and try again")
    print_metrics(measured)
    drawn = _draw(root, pictures_in)
    say(f"heatmaps: {', '.join(str(path) for path in drawn)}")
    say(f"done in {time.monotonic() - start:.0f} s; now look around:")
    say(f'  histolake sql "{QUERY}" --lake {folder / "lake"}')
    say(f"  histolake app --lake {folder / 'lake'}")


def _draw(root: Path, folder: Path) -> list[Path]:
    """Heatmaps of the test slides."""
    with session.connect(root, udfs=()) as con:
        ids = con.execute("select slide_id from slides where split = 'test' order by slide_id").fetchall()
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for (slide_id,) in ids:
        target = folder / f"{slide_id}.png"
        pictures.write_heatmap(root, slide_id, target)
        drawn.append(target)
    return drawn
