"""Training over shards: the same model whatever their number, and whoever holds them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from support import TestLake

from lake import deep, session, training_rows
from lake.heads import HEADS
from lake.learning import learn
from lake.recipe import Recipe, recipe_of
from lake.row_sums import RowSums
from lake.selection import TrainingSet, choose
from lake.sharded_set import ShardedSet, held_here
from udfs.errors import ModelError

RECIPE = Recipe("patches", "encoder", "centre")


def embedded(count: int, dims: int = 60, *, slides: int = 9, seed: int = 0) -> TrainingSet:
    """Embeddings as networks give them, one in five is tumor; every third slide is for validation, one lacks tumor."""
    rng = np.random.default_rng(seed)
    slide = np.arange(count) * slides // count
    y = ((rng.random(count) < 0.25) & (slide > 0)).astype(np.int64)
    hidden = rng.normal(size=(count, 16)) + 0.4 * y[:, None]
    mixing = rng.normal(size=(16, dims)) / np.sqrt(np.arange(1, 17))[:, None]
    x = np.maximum(hidden @ mixing + 0.3 * rng.normal(size=(count, dims)), -0.5).astype(np.float32)
    names = np.array([f"s{number}" for number in slide])
    return TrainingSet(x, y, names, slide % 3 == 2)


def cut(data: TrainingSet, cuts: Sequence[int]) -> ShardedSet:
    """The set in shards that end at these rows and at the last one."""
    ends = [0, *cuts, len(data.y)]
    pieces = [slice(start, end) for start, end in itertools.pairwise(ends)]
    return held_here([TrainingSet(data.x[p], data.y[p], data.slides[p], data.is_validation[p]) for p in pieces])


CUTS = {
    "one shard": [],
    "two": [4000],
    "three, the first of normal patches only": [890, 5000],
    "one without patches, one of validation patches only": [2000, 2000, 2700],
}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_coefficients_are_scikit_learns_within_a_ten_thousandth_whatever_the_shards(cuts: list[int]) -> None:
    data = embedded(8000)
    sharded, training = cut(data, cuts), np.flatnonzero(~data.is_validation)
    x, y = data.x[training].astype(float), data.y[training]
    scaled = StandardScaler().fit_transform(x)
    head = HEADS["logistic"]
    for fitted in sharded.fits(head, training, np.empty(0, int), head.candidates):
        scaler, regression = fitted.named_steps.values()
        plain = LogisticRegression(C=regression.C, class_weight="balanced", solver="newton-cholesky", tol=1e-10)
        plain.fit(scaled, y)
        assert np.abs(regression.coef_ - plain.coef_).max() < 1e-4
        moved = plain.intercept_ + np.log(y.mean() / (1 - y.mean()))
        assert np.abs(regression.intercept_ - moved).max() < 1e-4
        np.testing.assert_allclose(scaler.mean_, x.mean(axis=0), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scaler.scale_, x.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("calibration", ["none", "platt", "temperature"])
def test_all_that_is_chosen_over_shards_is_what_is_chosen_in_one_process(calibration: str) -> None:
    data = embedded(4000)
    recipe = Recipe("patches", "encoder", "centre", calibration=calibration)
    here, sharded = learn(data, recipe), learn(cut(data, [890, 2500]), recipe)
    rows = np.arange(4000)
    assert sharded.chosen.parameters == here.chosen.parameters
    assert abs(sharded.threshold - here.threshold) < 1e-4
    scores = [data.probability(each.estimator, rows) for each in (here, sharded)]
    assert np.abs(scores[0] - scores[1]).max() < 1e-4
    assert learn(cut(data, []), recipe).model_id == here.model_id  # one shard is no other way


def test_where_no_slide_is_for_validation_folds_of_slides_go_across_shards() -> None:
    data = embedded(4000)
    data = TrainingSet(data.x, data.y, data.slides, np.zeros(4000, bool))
    here, sharded = choose(HEADS["logistic"], data), choose(HEADS["logistic"], cut(data, [1000]))
    assert sharded.how == "cross-validation over training slides"
    assert (sharded.parameters, len(sharded.labels)) == (here.parameters, len(here.labels))
    assert [auc for _, auc in sharded.tried] == pytest.approx([auc for _, auc in here.tried], abs=1e-4)


def test_constant_dimensions_are_told_in_shards_as_scikit_learn_tells_them() -> None:
    data = embedded(3000)
    data.x[:, 3], data.x[:, 7] = 0.0, 123.456
    moments = cut(data, [700, 1500]).sums(np.arange(3000)).moments()
    plain = StandardScaler().fit(data.x.astype(float))
    assert moments.scale[[3, 7]].tolist() == [1.0, 1.0]
    np.testing.assert_allclose(moments.scale, plain.scale_, rtol=1e-6)
    assert moments.counts.tolist() == np.bincount(data.y).tolist()


def test_a_head_that_needs_all_patches_at_once_is_refused() -> None:
    data = cut(embedded(500), [200])
    with pytest.raises(ModelError, match="--head mlp is fitted in one process"):
        data.fits(HEADS["mlp"], np.arange(300), np.empty(0, int), [{"alpha": 1.0}])


@given(st.integers(0, 5), st.lists(st.integers(0, 300), max_size=4))
def test_rows_are_drawn_into_the_same_batches_wherever_they_are_cut(a_pass: int, cuts: list[int]) -> None:
    whole = deep.batch_numbers(a_pass, 0, 300, 7)
    ends = [0, *sorted(cuts), 300]
    parts = [deep.batch_numbers(a_pass, start, end - start, 7) for start, end in itertools.pairwise(ends)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert set(whole.tolist()) <= set(range(7))


def test_rows_are_spread_evenly_over_batches_and_anew_in_every_pass() -> None:
    first, second = (deep.batch_numbers(number, 0, 100_000, 10) for number in (0, 1))
    for drawn in (first, second):
        assert np.abs(np.bincount(drawn) - 10_000).max() < 400  # four standard deviations
    assert abs((first == second).mean() - 0.1) < 0.01


def test_sums_over_no_rows_are_nothing() -> None:
    data = embedded(300)
    none = RowSums(data.x, data.y, np.empty(0, int))
    total, residual, gradient = none.loss(np.ones(60, np.float32), 0.0, np.ones(2))
    assert (total, residual, gradient.tolist()) == (0.0, 0.0, [0.0] * 60)
    assert [count for count, _ in none.products(np.zeros(60, np.float32), np.ones(60, np.float32), (1, 1))] == [0, 0]


def test_shards_are_ranges_of_slides_of_like_size_that_leave_no_patch_out(full_lake: TestLake) -> None:
    recipe = recipe_of(full_lake.read("models").to_dicts()[0])
    with session.connect(full_lake.root, udfs=()) as con:
        whole = training_rows.training_set(con, recipe)
        for most in (1, 2, 3, 100):
            found = training_rows.shards(con, recipe, most)
            assert len(found) <= min(most, len(set(whole.slides)))
            assert training_rows.shards(con, recipe, len(found)) == found
            parts = held_here([training_rows.training_set(con, recipe, each) for each in found])
            assert sorted(parts.slides) == sorted(whole.slides)
            assert parts.y.sum() == whole.y.sum()
            assert learn(parts, recipe).threshold == pytest.approx(learn(whole, recipe).threshold, abs=1e-4)


def test_a_network_of_several_workers_is_not_fitted_again_by_one() -> None:
    with pytest.raises(ModelError, match="--engine ray --workers 2"):
        cut(embedded(500), [200]).fits(HEADS["deep"], np.arange(300), np.empty(0, int), [{"steps": 5}])
