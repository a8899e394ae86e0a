"""What large sets and files are computed by: here sets of any size are treated like large ones."""

import numpy as np
import pytest

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import order


@pytest.fixture(name="large")
def no_set_is_few(monkeypatch):
    monkeypatch.setattr(order, "_FEW", 0)
    monkeypatch.setattr(order, "_BLOCK", 1000)


def sets(rng, n):
    """Vectors of many kinds: no two alike, ties, all sizes, very near to each other, both zeros and infinities."""
    yield rng.normal(size=n)
    yield np.round(rng.normal(size=n), 1) * rng.choice([-1.0, 1.0], n)
    yield rng.normal(size=n) * 10.0 ** rng.integers(-307, 307, n)
    yield 1 + 1e-13 * rng.normal(size=n)
    yield np.concatenate([-1 - 1e-12 * rng.random(n), [-np.inf, np.inf, 0.0, -0.0, 5e-324]])
    yield np.full(n, -2.5)


def test_sorting_by_digits_is_sorting(large):
    for n in (1, 2, 7, 5000):
        for values in sets(np.random.default_rng(n), n):
            np.testing.assert_array_equal(order.ascending(values), np.sort(values))
            np.testing.assert_array_equal(order.ascending(np.sort(values)), np.sort(values))


def test_wins_are_those_of_every_pair(large):
    rng = np.random.default_rng(0)
    for values, others in zip(sets(rng, 1500), sets(rng, 700), strict=True):
        pairs = 2 * (values[:, None] > others).sum(axis=1) + (values[:, None] == others).sum(axis=1)
        np.testing.assert_array_equal(order.wins(np.sort(values), np.sort(others)), pairs[np.argsort(values)])
        assert metrics.auroc(others, values) == pairs.sum() / (2 * values.size * others.size)


@pytest.mark.parametrize("n_bins", [1, 2, 15, 100])
def test_bins_of_equal_mass_of_large_sets_are_those_of_sorting(monkeypatch, n_bins):
    rng = np.random.default_rng(n_bins)
    uniform = rng.random(3000)
    kinds = (uniform, np.round(uniform, 2), 1 - 10 ** (-18 * uniform), np.full(50, 0.9), np.arange(5) / 4, uniform**30)
    for confidence in kinds:
        correct = rng.random(len(confidence)) < confidence
        expected = metrics.bin_equal_mass(confidence, correct, n_bins)
        with monkeypatch.context() as patch:
            patch.setattr(order, "_SOME", 0)
            patch.setattr(order, "_BLOCK", 700)
            found = metrics.bin_equal_mass(confidence, correct, n_bins)
        for name in ("edges", "count", "correct_sum"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_allclose(found.confidence_sum, expected.confidence_sum, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 10, 63, 64, 300])
def test_losses_are_those_of_twice_the_digits_also_for_the_surest(classes, dtype):
    rng = np.random.default_rng(classes)
    logits = rng.normal(0, 3, (400, classes)) * rng.choice([0.01, 1, 10, 100, 1000], (400, 1))
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    logits[:, 0] = rng.choice([-600.0, -30.0, 0.0, 30.0, 600.0, 690.0, 720.0, 5000.0], 400)
    logits = np.round(logits.astype(dtype), rng.choice([0, 9]))  # with ties
    labels = np.where(rng.random(400) < 0.6, logits.argmax(axis=1), rng.integers(0, classes, 400))
    wide = logits.astype(np.longdouble)
    wide -= wide.max(axis=1, keepdims=True)
    powers, each = np.exp(wide), np.arange(400)
    below = -wide[each, labels]
    powers[each, wide.argmax(axis=1)] = 0  # x, as in compiled_losses
    x = powers.sum(axis=1)
    powers[each, wide.argmax(axis=1)] = 1
    shares = powers / (1 + x)[:, None]
    shares[each, labels] = 0
    brier = np.square(shares.sum(axis=1)) + np.square(shares).sum(axis=1)
    nll = metrics.nll_of_each(logits, labels)
    np.testing.assert_allclose(nll, (np.log1p(x) + below).astype(float), rtol=2e-13, atol=1e-307)
    np.testing.assert_allclose(metrics.brier_of_each(logits, labels), brier.astype(float), rtol=2e-13, atol=1e-280)
    assert metrics.nll(logits, labels) == pytest.approx(nll.mean(), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [3, 70])
def test_losses_of_what_is_no_logit_are_refused(classes, dtype):
    for value, others in ((np.nan, 0), (-np.nan, -1e6), (np.inf, 0), (np.inf, np.inf), (-np.inf, -np.inf)):
        for place in (0, 1, classes - 1):
            logits = np.zeros((70, classes), dtype)
            logits[67] = others
            logits[67, place] = value
            for loss in (metrics.nll, metrics.brier):
                with pytest.raises(InputError, match="67"):
                    loss(logits, np.zeros(70, int))


@pytest.mark.parametrize("classes", [2, 3, 70])
def test_scores_of_both_zeros_and_ties_do_not_depend_on_the_order_of_the_classes(classes):
    rng = np.random.default_rng(classes)
    logits = rng.choice([-np.inf, -30.0, -1.0, -0.0, 0.0, 0.3, 2.0], (300, classes)) + rng.choice([0.0, -5.0], (300, 1))
    logits[:, 0] = np.maximum(logits[:, 0], -2.0)
    shuffled = np.take_along_axis(logits, np.argsort(rng.random(logits.shape), axis=1), axis=1)
    wide = logits.astype(np.longdouble)
    wide -= wide.max(axis=1, keepdims=True)
    shares = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    shares[np.arange(300), wide.argmax(axis=1)] = 0
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(metrics.msp_score(logits), np.log(shares.sum(axis=1)).astype(float), rtol=1e-13)
    for score in (metrics.msp_score, metrics.entropy_score, metrics.energy_score):
        np.testing.assert_array_equal(score(shuffled), score(logits))
