"""What training chooses and on which patches: heads, calibration, threshold, protocols, reviewers' verdicts."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT, TestLake, run

from lake import heads, model_files, row_blocks, session, store, training_rows
from lake.decision import best_threshold, calibrated
from lake.heads import HEADS
from lake.learning import Learned, learn
from lake.recipe import Recipe
from lake.selection import TrainingSet, choose
from udfs.errors import ModelError


def overlapping(
    rows: int = 1500, dims: int = 24, *, slides: int = 6, validation: int = 2, seed: int = 3
) -> TrainingSet:
    """Two classes that overlap, one in five is tumor; the last slides are for validation."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.2).astype(np.int64)
    x = (rng.normal(size=(rows, dims)) + 0.35 * y[:, None]).astype(np.float32)
    slide = np.arange(rows) * slides // rows
    return TrainingSet(x, y, np.array([f"s{number}" for number in slide]), slide >= slides - validation)


def recipe_of(lake: TestLake) -> Recipe:
    """What the lake's model was trained with."""
    row = lake.read("models").to_dicts()[0]
    return Recipe(row["patch_set"], row["encoder_id"], row["label_rule"])


def rows_of(lake: TestLake, recipe: Recipe) -> TrainingSet:
    """The training set of a recipe."""
    with session.connect(lake.root, udfs=()) as con:
        return training_rows.training_set(con, recipe)


RECIPE = Recipe("patches", "encoder", "centre")

AGAIN = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_training import RECIPE, coefficients, overlapping
from lake.learning import learn
print(coefficients(learn(overlapping(4000, 300), RECIPE)))
"""


def coefficients(learned: Learned) -> str:
    """Every bit of the classifier, and its id."""
    scaler, regression = learned.estimator
    return b"".join(array.tobytes() for array in (scaler.mean_, regression.coef_, regression.intercept_)).hex() + (
        f" {learned.threshold!r} {learned.model_id}"
    )


def test_another_process_with_other_threads_gives_the_same_coefficients_bit_for_bit() -> None:
    words = [sys.executable, "-c", AGAIN, str(ROOT), str(ROOT / "tests/lake")]
    environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")}
    done = run(words, check=True, env=environment)
    assert done.stdout.strip() == coefficients(learn(overlapping(4000, 300), RECIPE))


@pytest.mark.parametrize("head", HEADS)
def test_any_number_of_threads_gives_the_same_classifier(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "STEPS", 100)
    found = set()
    for cores in (1, 3):
        monkeypatch.setattr(row_blocks, "cores", lambda cores=cores: cores)
        found.add(learn(overlapping(6000, 80), replace(RECIPE, head=head)).model_id)
    assert len(found) == 1


def test_rows_of_the_training_set_are_the_tables_and_those_to_fit_follow_each_other(full_lake: TestLake) -> None:
    recipe = recipe_of(full_lake)
    data = rows_of(full_lake, recipe)
    key = ["slide_id", "x", "y"]
    labels = full_lake.read("labels").filter(label_rule=recipe.label_rule).select(*key, "label")
    splits = full_lake.read("slides").select("slide_id", "split")
    wanted = (
        full_lake.read("features").join(labels, on=key).join(splits, on="slide_id").sort("split", "slide_id", "y", "x")
    )
    wanted = wanted.filter(pl.col("split").is_in(["train", "validation"]) & pl.col("embedding").is_not_null())
    assert np.array_equal(data.x, np.array(wanted["embedding"].to_list(), np.float32))
    assert data.y.tolist() == wanted["label"].to_list()
    assert data.slides.tolist() == wanted["slide_id"].to_list()
    assert data.is_validation.tolist() == (wanted["split"] == "validation").to_list()
    assert len(row_blocks.blocks_of(np.flatnonzero(~data.is_validation), len(data.y))) == 1


def test_the_lakes_model_comes_out_again_when_it_is_fitted_again(full_lake: TestLake) -> None:
    row = full_lake.read("models").to_dicts()[0]
    again = learn(rows_of(full_lake, recipe_of(full_lake)), recipe_of(full_lake))
    assert (again.model_id, again.threshold) == (row["model_id"], row["threshold"])


def test_all_that_is_chosen_is_part_of_the_models_identity() -> None:
    data = overlapping()
    recipes = [
        RECIPE,
        replace(RECIPE, calibration="platt"),
        replace(RECIPE, calibration="temperature"),
        replace(RECIPE, protocol="patch_random"),
        replace(RECIPE, with_reviews=True),
    ]
    assert len({learn(data, recipe).model_id for recipe in recipes}) == len(recipes)


@pytest.mark.slow
def test_every_head_keeps_the_promises_of_a_head() -> None:
    data = overlapping(600)
    for name, head in HEADS.items():
        learned = learn(data, replace(RECIPE, head=name))
        probability = learned.estimator.predict_proba(data.x)[:, 1]
        assert probability[data.y == 1].mean() > probability[data.y == 0].mean()
        again = model_files.loaded(model_files.file_of(learned.estimator), name)
        assert np.array_equal(again.predict_proba(data.x)[:, 1], probability)
        assert learn(data, replace(RECIPE, head=name)).model_id == learned.model_id
        assert head.about.endswith(".")


def test_parameters_are_chosen_on_slides_that_were_not_fitted_on() -> None:
    data = overlapping()
    chosen = choose(HEADS["logistic"], data)
    assert chosen.how == "validation split"
    assert np.array_equal(chosen.labels, data.y[data.is_validation])
    folded = choose(HEADS["logistic"], overlapping(validation=0))
    assert folded.how == "cross-validation over training slides"
    assert len(folded.labels) == 1500
    alone = choose(HEADS["logistic"], overlapping(slides=1, validation=0))
    assert (alone.tried, len(alone.labels), alone.parameters) == ([], 0, {"C": 1e-2})


def balanced(labels: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any], threshold: float) -> float:
    """Balanced accuracy, patch by patch."""
    called = probabilities >= threshold
    return float((called[labels == 1].mean() + (~called[labels == 0]).mean()) / 2)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=40))
def test_no_threshold_is_better_than_the_best_and_of_the_best_it_is_nearest_to_one_half(
    pairs: list[tuple[bool, int]],
) -> None:
    labels, probabilities = np.array([label for label, _ in pairs], int), np.array([p / 20 for _, p in pairs])
    found = best_threshold(labels, probabilities)
    if len(set(labels)) < 2:
        assert found == 0.5
        return
    occurring = sorted(set(probabilities))
    tried = [0.5, *((low + high) / 2 for low, high in itertools.pairwise(occurring))]
    scores = {each: balanced(labels, probabilities, each) for each in tried}
    best = [each for each in tried if scores[each] >= max(scores.values()) - 1e-9]
    assert min(abs(each - found) for each in best) < 1e-12
    assert abs(found - 0.5) <= min(abs(each - 0.5) for each in best) + 1e-12


def test_the_threshold_is_chosen_on_validation_or_by_folds_and_never_on_what_was_fitted() -> None:
    for data in (overlapping(), overlapping(validation=0)):
        learned = learn(data, RECIPE)
        assert learned.threshold == best_threshold(learned.chosen.labels, learned.chosen.probabilities)
        assert learned.threshold < 0.4  # one patch in five is tumor
    assert learn(overlapping(slides=1, validation=0), RECIPE).threshold == 0.5


@pytest.mark.parametrize("method", ["platt", "temperature"])
def test_calibration_on_validation_keeps_ranks_and_makes_probabilities_truer(method: str) -> None:
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    few, held, fresh = (overlapping(rows, 60, seed=seed) for seed, rows in enumerate((240, 400, 4000)))
    overconfident = HEADS["logistic"].fit(few.x, few.y, C=100.0)
    moved = calibrated(overconfident, method, held, np.arange(400))
    before, after = (each.predict_proba(fresh.x)[:, 1].astype(float) for each in (overconfident, moved))
    assert log_loss(fresh.y, after) < log_loss(fresh.y, before) - 0.1
    a, b = rng.integers(0, len(before), (2, 2000))
    assert np.all((before[a] - before[b]) * (after[a] - after[b]) >= 0)


def test_the_threshold_is_of_the_calibrated_probabilities() -> None:
    data = overlapping()
    learned = learn(data, replace(RECIPE, calibration="temperature"))
    held = data.is_validation
    probabilities = learned.estimator.predict_proba(data.x[held])[:, 1].astype(float)
    assert learned.threshold == pytest.approx(best_threshold(data.y[held], probabilities), abs=1e-7)


def test_calibration_without_both_classes_on_validation_slides_is_refused(full_lake: TestLake) -> None:
    slides = full_lake.read("slides").filter(slide_id="tumor_3").to_dicts()
    store.put(full_lake.root, "slides", [{**slides[0], "split": "test"}], "test")
    answer = full_lake("train", "--encoder", "tiny", "--calibration", "platt")
    assert answer.status == 1
    assert "--calibration none" in answer.err
    with pytest.raises(ModelError, match="must be one of none, platt, temperature"):
        Recipe("p", "e", "centre", calibration="isotonic")


def side(slide_id: str, x: int, y: int) -> str:
    """The side of a patch in protocol patch_random, by its definition, with seed 0."""
    digest = hashlib.md5(f"0:{slide_id}:{x}:{y}".encode()).digest()
    share = int.from_bytes(digest[8:], "little") / 2**64
    return "train" if share < 0.6 else "validation" if share < 0.8 else "test"


def test_patch_random_trains_on_test_slides_and_never_makes_a_champion(own_lake: TestLake) -> None:
    champion = store.setting(own_lake.root, "champion")
    data = rows_of(own_lake, replace(recipe_of(own_lake), protocol="patch_random"))
    labelled = own_lake.read("labels").select("slide_id", "x", "y").unique().rows()
    sides = [side(*patch) for patch in labelled]
    assert sides.count("test") > 50
    assert [(~data.is_validation).sum(), data.is_validation.sum()] == [sides.count("train"), sides.count("validation")]
    made = own_lake.ok("train", "--encoder", "tiny", "--protocol", "patch_random", "--json").json()
    assert made["is_new"]
    assert not made["is_champion"]
    row = own_lake.read("models").filter(model_id=made["model_id"]).to_dicts()[0]
    assert row["protocol"] == "patch_random"
    assert "tumor_4" in json.loads(row["training_slides"])  # for test
    assert store.setting(own_lake.root, "champion") == champion
    refused = own_lake("models", "promote", made["model_id"])
    assert refused.status == 1
    assert "test slides" in refused.err


def verdicts(lake: TestLake, *said: tuple[str, int, int, str]) -> None:
    """Append reviews, each a minute after the one before."""
    patch_set, now = recipe_of(lake).patch_set, datetime.now(UTC)
    start = len(lake.read("reviews"))
    rows = [
        {"slide_id": slide_id, "patch_set": patch_set, "x": x, "y": y, "verdict": verdict, "reviewer": "ab"}
        | {"reviewed_at": now + timedelta(minutes=start + number)}
        for number, (slide_id, x, y, verdict) in enumerate(said)
    ]
    store.append(lake.root, "reviews", rows, "test")


def numbered(data: TrainingSet) -> Iterator[tuple[str, bytes, int]]:
    """Slide, embedding and label of each row."""
    return zip(data.slides.tolist(), [row.tobytes() for row in data.x], data.y.tolist(), strict=True)


def test_the_newest_verdict_replaces_a_label_and_doubt_leaves_the_patch_out(full_lake: TestLake) -> None:
    plain = recipe_of(full_lake)
    reviewed = replace(plain, with_reviews=True)
    tumor = full_lake.read("labels").filter(slide_id="tumor_1", label=1).sort("y", "x").select("x", "y").rows()
    before = rows_of(full_lake, plain)
    verdicts(
        full_lake,
        ("tumor_1", *tumor[0], "unsure"),
        ("tumor_1", *tumor[0], "normal"),  # the newest
        ("tumor_1", *tumor[1], "unsure"),
        ("tumor_4", 320, 192, "normal"),  # a test slide: never trained on
    )
    after = rows_of(full_lake, reviewed)
    assert len(after.y) == len(before.y) - 1
    assert after.y.sum() == before.y.sum() - 2
    assert set(after.slides) == set(before.slides)
    assert list(numbered(rows_of(full_lake, plain))) == list(numbered(before))


@pytest.mark.slow
def test_a_model_trained_with_reviews_names_their_version_and_is_trained_again_after_new_ones(
    own_lake: TestLake,
) -> None:
    words = ("train", "--encoder", "tiny", "--with-reviews", "--json")
    tumor = own_lake.read("labels").filter(slide_id="tumor_1", label=1).sort("y", "x").select("x", "y").rows()
    verdicts(own_lake, *(("tumor_1", *patch, "unsure") for patch in tumor[:6]))
    made = own_lake.ok(*words).json()
    row = own_lake.read("models").filter(model_id=made["model_id"]).to_dicts()[0]
    assert json.loads(row["table_versions"])["reviews"] == own_lake.versions()["reviews"]
    assert own_lake.ok(*words).json()["is_new"] is False
    verdicts(own_lake, *(("tumor_1", *patch, "normal") for patch in tumor[:6]))
    assert own_lake.ok(*words).json()["model_id"] != made["model_id"]
    assert own_lake.ok("train", "--encoder", "tiny", "--json").json()["is_new"] is False  # without them: as before


def test_a_verdict_is_a_label_where_annotations_give_none(full_lake: TestLake) -> None:
    slide = full_lake.read("slides").filter(slide_id="normal_1").to_dicts()[0]
    feature = full_lake.read("features").filter(slide_id="normal_1").row(0, named=True)
    store.replace(
        full_lake.root,
        "labels",
        full_lake.read("labels").head(0).to_arrow().cast(store.TABLES["labels"].schema),
        [store.Replacement({"slide_id": slide["slide_id"]})],
        [store.entry("labels", run_id="test")],
    )
    reviewed = replace(recipe_of(full_lake), with_reviews=True)
    assert "normal_1" not in rows_of(full_lake, reviewed).slides
    verdicts(full_lake, ("normal_1", feature["x"], feature["y"], "normal"))
    assert rows_of(full_lake, reviewed).slides.tolist().count("normal_1") == 1
