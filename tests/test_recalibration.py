import json

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.isotonic
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.metrics import fit_isotonic, fit_temperature, fit_vector_scaling, nll, scale
from mixup_jax.runs.records import Predictions


def draw(seed, n=400, classes=4):
    """Labels whose right weights and biases are those of `truth`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    weights, bias = rng.uniform(0.5, 1.5, classes), rng.normal(size=classes)
    true = scipy.special.log_softmax(logits, axis=1) * weights + bias
    return logits, (true + rng.gumbel(size=logits.shape)).argmax(axis=1)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10**6), st.integers(2, 60), st.floats(0.01, 100))
def test_vector_scaling_never_raises_the_nll_on_what_it_was_fitted_on(seed, n, size):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(n, 3)) * size, rng.integers(0, 3, n)
    after = nll(fit_vector_scaling(logits, labels).apply(logits), labels)
    assert after <= nll(logits, labels) * (1 + 1e-12) + 1e-12
    assert after <= nll(scale(logits, fit_temperature(logits, labels)), labels) * (1 + 1e-12) + 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_vector_scaling_finds_the_minimum(seed):
    logits, labels = draw(seed)
    fitted = fit_vector_scaling(logits, labels)
    assert fitted.converged
    log_p = scipy.special.log_softmax(logits, axis=1)

    def loss(parameters):
        after = scipy.special.log_softmax(log_p * parameters[:4] + parameters[4:], axis=1)
        return -after[np.arange(len(labels)), labels].mean()

    golden = scipy.optimize.minimize(loss, np.r_[np.ones(4), np.zeros(4)], method="Powell", options={"ftol": 1e-10})
    assert nll(fitted.apply(logits), labels) == pytest.approx(golden.fun, abs=1e-5)
    assert nll(fitted.apply(logits), labels) <= golden.fun + 1e-8


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10**6))
def test_vector_scaling_ignores_constants(seed):
    logits, labels = draw(seed, n=100)
    constants = np.random.default_rng(seed).normal(size=(100, 1)) * 50
    one, other = fit_vector_scaling(logits, labels), fit_vector_scaling(logits + constants, labels)
    # The minimum is flat along one direction (a constant in the bias), so probabilities are compared.
    p, q = (scipy.special.softmax(fitted.apply(logits), axis=1) for fitted in (one, other))
    np.testing.assert_allclose(p, q, atol=1e-3)


def test_vector_scaling_at_the_edges():
    separable = fit_vector_scaling(np.array([[5.0, 0.0], [0.0, 5.0]]), [0, 1])
    assert np.abs(separable.weights).max() <= 100
    absent, labels = draw(0, classes=3)
    fitted = fit_vector_scaling(np.c_[absent, np.full(len(absent), -np.inf)], labels)
    assert np.isneginf(fitted.apply(np.array([[1.0, 0.0, 0.0, -np.inf]]))[0, 3])
    impossible = fit_vector_scaling(np.array([[0.0, -np.inf]]), [1])
    assert impossible.weights.tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="logits have 2 classes; expected 4"):
        fitted.apply(np.zeros((1, 2)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 80))
def test_isotonic_equals_scikit_learn_and_keeps_the_order(seed, n):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.integers(0, 11, n) / 10, rng.random(n) < 0.6
    fitted = fit_isotonic(confidence, correct)
    points = np.linspace(0, 1, 37)
    golden = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip").fit(confidence, correct).predict(points)
    np.testing.assert_allclose(fitted.apply(points), golden, atol=1e-12)
    assert (np.diff(fitted.apply(points)) >= 0).all()
    # On its own data it is calibrated on average.
    assert fitted.apply(confidence).mean() == pytest.approx(correct.mean())
    with pytest.raises(InputError, match="no examples"):
        fit_isotonic([], [])


def test_the_evaluation_fits_on_validation_only_and_reports_both():
    logits, labels = draw(1)
    test, validation = Predictions(logits[:200], labels[:200]), Predictions(logits[200:], labels[200:])
    document = evaluate_records(test, validation=validation, posthoc=("vector_scaling", "isotonic"))
    json.dumps(document, allow_nan=False)
    fitted = fit_vector_scaling(validation.logits, validation.labels)
    after = document["results"]["test"]["posthoc"]
    assert document["posthoc"]["vector_scaling"]["weights"] == fitted.weights.tolist()
    assert after["vector_scaling"]["nll"] == pytest.approx(nll(fitted.apply(test.logits), test.labels), rel=1e-12)
    isotonic = fit_isotonic(*metrics.confidence_and_correct(validation.logits, validation.labels))
    mapped = isotonic.apply(metrics.max_probability(test.logits))
    assert after["isotonic"]["mean_confidence"] == pytest.approx(mapped.mean())
    assert after["isotonic"]["accuracy"] == document["results"]["test"]["accuracy"]
    assert "nll" not in after["isotonic"]
    own = document["results"]["validation"]
    assert own["posthoc"]["vector_scaling"]["nll"] <= own["after_temperature"]["nll"] <= own["nll"]
    with pytest.raises(InputError, match="is the test record"):
        evaluate_records(test, validation=Predictions(test.logits, test.labels), posthoc=("isotonic",))
    with pytest.raises(InputError, match="isotonic has no validation record"):
        evaluate_records(test, posthoc=("isotonic",))
    with pytest.raises(InputError, match="unknown post-hoc method 'platt'"):
        evaluate_records(test, validation=validation, posthoc=("platt",))
