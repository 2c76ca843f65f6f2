"""The heads: each is a classifier of scikit-learn's own types, deterministic, with honest probabilities."""

import joblib
import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from lake import choices, heads
from lake.classifier import Classifier
from lake.heads import HEADS
from lake.row_blocks import blocks_of


def features(count, *, share=0.5, dims=12, seed=0):
    """Classes that a line tells apart to a degree, and a product of two features much better."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dims)).astype(np.float32)
    score = 0.7 * x[:, 0] + 1.5 * x[:, 1] * x[:, 2] + rng.normal(scale=0.5, size=count)
    return x, (score > np.quantile(score, 1 - share)).astype(np.int64)


@pytest.fixture
def hasty(monkeypatch):
    """Networks are fitted for a moment only."""
    monkeypatch.setattr(heads, "STEPS", 100)


def fit(name, x, y):
    return HEADS[name].fit(x, y, **HEADS[name].candidates[0])


def embedded(count, dims, *, share, seed=0, away=0.0):
    """Embeddings as networks give them: a few directions vary much, the others little. away: of all from 0."""
    rng = np.random.default_rng(seed)
    y = (rng.random(count) < share).astype(np.int64)
    hidden = rng.normal(size=(count, 16)) + 0.3 * y[:, None]
    mixing = rng.normal(size=(16, dims)) / np.sqrt(np.arange(1, 17))[:, None]
    x = np.maximum(hidden @ mixing + 0.3 * rng.normal(size=(count, dims)), -0.5)
    return (x + away).astype(np.float32), y


@pytest.mark.parametrize("away", [0.0, 100.0])
@pytest.mark.parametrize("count", [60, 3000])
def test_logistic_finds_what_scikit_learn_finds_when_it_is_left_to_converge(count, away):
    """Within 0.3 % of the largest coefficient: scikit-learn's own solver, as it usually stops, is away by more."""
    x, y = embedded(count, 120, share=0.2, away=away)
    scaled = StandardScaler().fit_transform(x.astype(float))
    for fitted in HEADS["logistic"].fits(x, y, np.arange(count), HEADS["logistic"].candidates):
        scaler, regression = fitted.named_steps.values()
        plain = LogisticRegression(C=regression.C, class_weight="balanced", solver="newton-cholesky", tol=1e-9)
        plain.fit(scaled, y)
        np.testing.assert_allclose(regression.coef_, plain.coef_, atol=3e-3 * np.abs(plain.coef_).max())
        moved = plain.intercept_ + np.log(y.mean() / (1 - y.mean()))
        np.testing.assert_allclose(regression.intercept_, moved, atol=3e-3)
        np.testing.assert_allclose(scaler.scale_, x.std(axis=0, dtype=float), rtol=1e-4)


def test_few_steps_are_enough_where_directions_vary_unlike():
    x, y = embedded(3000, 120, share=0.2)
    fits = HEADS["logistic"].fits(x, y, np.arange(3000), HEADS["logistic"].candidates)
    assert max(fitted[-1].n_iter_[0] for fitted in fits) <= 20


def test_the_command_line_names_them_all():
    assert tuple(HEADS) == choices.HEADS


@pytest.mark.parametrize("name", HEADS)
def test_only_the_rows_named_are_fitted(name, hasty):
    x, y = features(900)
    rows = np.flatnonzero(np.arange(900) // 100 % 3 != 1)
    some = next(HEADS[name].fits(x, y, rows, HEADS[name].candidates))
    others = np.setdiff1d(np.arange(900), rows)
    x[others], y[others] = 1e3, 1 - y[others]
    again = next(HEADS[name].fits(x, y, rows, HEADS[name].candidates))
    assert joblib.hash(some) == joblib.hash(again)


@given(st.sets(st.integers(0, 60)), st.integers(1, 7))
def test_blocks_are_the_rows_in_order_and_never_too_long(rows, most):
    blocks = blocks_of(np.array(sorted(rows), int), most)
    assert [row for block in blocks for row in range(block.start, block.stop)] == sorted(rows)
    assert all(0 < block.stop - block.start <= most for block in blocks)


@pytest.mark.parametrize("name", HEADS)
def test_a_classifier_gives_scikit_learns_probability(name, hasty):
    x, y = embedded(2000, 300, share=0.1, away=3.0)
    fitted = fit(name, x, y)
    expected = fitted.predict_proba(x.astype(float))[:, 1]
    assert np.abs(Classifier(fitted, 300).probability(x) - expected).max() < 1e-6


@pytest.mark.parametrize("name", HEADS)
def test_a_classifier_refuses_what_is_no_number(name, hasty):
    x, y = features(300)
    classifier = Classifier(fit(name, x, y), 12)
    x[7, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        classifier.probability(x)


@pytest.mark.parametrize("name", HEADS)
def test_the_same_patches_give_the_same_classifier(name, hasty):
    x, y = features(300)
    assert joblib.hash(fit(name, x, y)) == joblib.hash(fit(name, x, y))


@pytest.mark.parametrize("name", ["logistic", "mlp"])
def test_it_is_stored_without_a_type_that_skops_would_ask_about(name, hasty):
    x, y = features(300)
    fitted = fit(name, x, y)
    stored = skops.io.dumps(fitted)
    assert skops.io.get_untrusted_types(data=stored) == []
    np.testing.assert_array_equal(skops.io.loads(stored).predict_proba(x), fitted.predict_proba(x))


@pytest.mark.parametrize("name", HEADS)
def test_probabilities_are_those_of_the_patches_seen_also_where_tumor_is_rare(name):
    x, y = features(3000, share=0.1)
    probabilities = fit(name, x, y).predict_proba(features(3000, share=0.1, seed=1)[0])
    assert probabilities.shape == (3000, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert 0.05 < probabilities[:, 1].mean() < 0.15  # half of the patches, had the fit's weights been left in


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("rows", [2, 3, 201])
def test_few_patches_are_enough_to_fit(name, rows, hasty):
    x, _ = features(rows)
    y = np.arange(rows) % 2
    fitted = fit(name, x, y)
    probabilities = fitted.predict_proba(x)
    assert probabilities.shape == (rows, 2)
    assert np.isfinite(probabilities).all()


def test_networks_learn_what_no_line_tells():
    x, y = features(3000)
    other, truth = features(1000, seed=1)
    auc = {name: roc_auc_score(truth, fit(name, x, y).predict_proba(other)[:, 1]) for name in HEADS}
    assert auc["mlp"] > auc["logistic"] + 0.1


def test_the_networks_joined_give_the_mean_of_their_log_odds():
    x, y = features(400)
    networks = [MLPClassifier((8,), random_state=seed, max_iter=400, tol=1e-3).fit(x, y) for seed in range(3)]

    def log_odds(network):
        no, yes = network.predict_proba(x).T
        return np.log(yes / no)

    expected = np.mean([log_odds(each) for each in networks], axis=0)
    np.testing.assert_allclose(log_odds(heads._joined(networks)), expected, rtol=1e-3, atol=1e-3)
