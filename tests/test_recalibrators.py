"""Recalibration fitted on validation data: against independent fits of the objectives of the papers, and laws."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from mixup_jax import metrics
from mixup_jax.metrics import recalibrators as r

RNG = np.random.default_rng(0)
TRUE = RNG.normal(0, 1.5, (400, 4))
LABELS = (TRUE + RNG.gumbel(size=TRUE.shape)).argmax(axis=1)
LOGITS = 2.5 * TRUE @ (np.eye(4) + 0.2 * RNG.normal(size=(4, 4))) + [1.0, 0, -1, 0]
CONFIDENCE, CORRECT = metrics.confidence_and_correct(LOGITS, LABELS)


def objective(given, change, bias, diagonal, off, of_bias):
    ce = -log_softmax(given + given @ change.T + bias, axis=1)[np.arange(len(given)), LABELS].mean()
    inside = np.diag(change)
    return ce + diagonal * (inside**2).sum() + off * ((change**2).sum() - (inside**2).sum()) + of_bias * (bias**2).sum()


@pytest.mark.parametrize("name", ["svs", "sms", "dirichlet"])
def test_an_affine_map_is_the_minimum_of_its_papers_objective(name):
    n, k = LOGITS.shape
    fitted = getattr(r, f"fit_{name}")(LOGITS, LABELS)
    given, numbers = log_softmax(LOGITS, axis=1), (0.0, 0.01 / (k * (k - 1)), 0.01 / k)
    if name != "dirichlet":
        temperature = metrics.fit_temperature(LOGITS, LABELS)
        given = np.log(n / (n + 1) * softmax(LOGITS / temperature, axis=1) + 1 / (n + 1) / k)
        numbers = (k / n, k * (k - 1) / n, k / n)

    def change_of(x):
        return np.diag(x[:k]) if name == "svs" else x[: k * k].reshape(k, k)

    size = (k if name == "svs" else k * k) + k
    found = minimize(
        lambda x: objective(given, change_of(x), x[-k:], *numbers), np.zeros(size), method="BFGS", tol=1e-9
    )
    ours = fitted.weights - 1 if name == "svs" else fitted.weights - np.eye(k)
    ours = np.diag(ours) if name == "svs" else ours
    assert objective(given, ours, fitted.bias, *numbers) == pytest.approx(found.fun, abs=1e-9)
    theirs = given + given @ change_of(found.x).T + found.x[-k:]
    np.testing.assert_allclose(softmax(fitted.apply(LOGITS), axis=1), softmax(theirs, axis=1), atol=2e-4)
    scaled = metrics.nll(metrics.scale(LOGITS, metrics.fit_temperature(LOGITS, LABELS)), LABELS)
    assert metrics.nll(fitted.apply(LOGITS), LABELS) < scaled


def test_ensemble_temperature_is_the_best_mixture():
    fitted = r.fit_ensemble_temperature(LOGITS, LABELS)
    assert fitted.weights.sum() == pytest.approx(1)
    assert (fitted.weights >= 0).all()
    own = metrics.nll(fitted.apply(LOGITS), LABELS)
    assert own <= metrics.nll(metrics.scale(LOGITS, fitted.temperature), LABELS)
    p = np.stack([softmax(LOGITS / fitted.temperature, axis=1), softmax(LOGITS, axis=1), np.full(LOGITS.shape, 1 / 4)])
    for a in np.linspace(0, 1, 21):
        for b in np.linspace(0, 1 - a, 11):
            mixed = np.tensordot([a, b, 1 - a - b], p, axes=1)
            assert own <= -np.log(mixed[np.arange(400), LABELS]).mean() + 1e-6


def test_beta_calibration_is_the_best_of_its_family():
    fitted = r.fit_beta(CONFIDENCE, CORRECT)

    def loss(a, b, c):
        p = 1 / (1 + np.exp(-(a * np.log(CONFIDENCE) - b * np.log(1 - CONFIDENCE) + c)))
        return -np.where(CORRECT, np.log(p), np.log(1 - p)).mean()

    np.testing.assert_allclose(r.BetaMap(1.0, 1.0, 0.0).apply(CONFIDENCE), CONFIDENCE, atol=1e-9)
    found = minimize(lambda x: loss(*x), [1, 1, 0], bounds=[(0, None), (0, None), (None, None)], tol=1e-10)
    assert loss(fitted.a, fitted.b, fitted.offset) == pytest.approx(found.fun, abs=1e-6)


def test_a_histogram_holds_the_accuracy_of_bins_of_equal_mass():
    fitted = r.fit_histogram(CONFIDENCE, CORRECT, 8)
    ascending = np.argsort(CONFIDENCE)
    np.testing.assert_allclose(fitted.accuracy, [CORRECT[part].mean() for part in np.split(ascending, 8)])
    again = fitted.apply(CONFIDENCE)
    assert metrics.adaptive_ece(again, CORRECT, 8) == pytest.approx(0, abs=1e-12)
    assert fitted.apply([0.0, 1.0]).tolist() == [fitted.accuracy[0], fitted.accuracy[-1]]


def test_equal_confidences_share_a_bin_and_an_empty_bin_has_the_accuracy_of_all():
    tied = r.fit_histogram(np.repeat([0.3, 0.7], [10, 30]), np.arange(40) % 2 == 0, 4)
    assert tied.apply([0.3, 0.7]).tolist() == [0.5, 0.5]
    five, right = np.array([1, 2, 3, 4, 5]) / 8, [False, True, False, True, True]
    assert r.fit_histogram(five, right, 4).apply(five).tolist() == [0, 1, 0, 1, 1]  # an edge is of the bin above
    few = r.fit_histogram([0.2, 0.8], [False, True], 4)
    assert few.apply([0.2, 0.5, 0.8]).tolist() == [0.0, 0.5, 1.0]
    assert r.fit_histogram([0.6] * 3, [True, True, False]).apply([0.1, 0.6]) == pytest.approx([2 / 3, 2 / 3])


def test_spline_calibration_is_the_least_squares_natural_spline():
    fitted = r.fit_spline(CONFIDENCE, CORRECT)
    order = np.argsort(CONFIDENCE)
    t, share = np.linspace(0, 1, 400), (CORRECT - CONFIDENCE)[order].cumsum() / 400
    knots = np.linspace(0, 1, 6)
    cardinal = [CubicSpline(knots, unit, bc_type="natural") for unit in np.eye(6)]
    weights = np.linalg.lstsq(np.column_stack([one(t) for one in cardinal]), share, rcond=None)[0]
    slope = sum(weight * one(t, 1) for weight, one in zip(weights, cardinal, strict=True))
    np.testing.assert_allclose(fitted.apply(CONFIDENCE[order]), np.clip(slope + CONFIDENCE[order], 0, 1), atol=1e-8)
