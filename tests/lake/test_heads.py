"""The heads: each is a classifier of scikit-learn's own types, deterministic, with honest probabilities."""

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from lake import heads
from lake.heads import HEADS


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


@pytest.mark.parametrize("name", HEADS)
def test_the_same_patches_give_the_same_classifier(name, hasty):
    x, y = features(300)
    assert joblib.hash(fit(name, x, y)) == joblib.hash(fit(name, x, y))


@pytest.mark.parametrize("name", HEADS)
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
    assert list(fitted.classes_) == [0, 1]
    assert np.isfinite(fitted.predict_proba(x)).all()


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
