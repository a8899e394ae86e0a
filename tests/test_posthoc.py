import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.errors import InputError
from mixup_jax.metrics import fit_temperature, nll, scale


def draw(seed, n=400, classes=5, sharpness=1.0):
    """Logits whose labels are drawn from softmax(logits / sharpness): the right temperature is near `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2 * sharpness
    labels = (logits / sharpness + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits, labels


@pytest.mark.parametrize("sharpness", [0.2, 0.7, 1.0, 3.0, 20.0])
def test_temperature_equals_scipys_minimum(sharpness):
    logits, labels = draw(3, sharpness=sharpness)

    def loss(log_temperature):
        log_probabilities = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -log_probabilities[np.arange(len(labels)), labels].mean()

    golden = scipy.optimize.minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(golden.x), rel=1e-6)
    assert fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.2)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.05, 20))
def test_the_derivative_vanishes_at_the_temperature(seed, sharpness):
    logits, labels = draw(seed, n=60, sharpness=sharpness)
    temperature = fit_temperature(logits, labels)
    probabilities = scipy.special.softmax(logits / temperature, axis=1)
    slope = (probabilities * logits).sum(axis=1) - logits[np.arange(len(labels)), labels]
    spread = (probabilities * logits**2).sum(axis=1) - (probabilities * logits).sum(axis=1) ** 2
    # slope / spread is the distance to the zero in 1/T.
    assert abs(slope.mean() / spread.mean()) * temperature < 1e-9


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0.001, 2000))
def test_temperature_keeps_the_ranking_and_never_raises_the_nll(seed, n, size):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(n, 3)) * size, rng.integers(0, 3, n)
    temperature = fit_temperature(logits, labels)
    assert 0.01 <= temperature <= 100
    scaled = scale(logits, temperature)
    np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))
    assert nll(scaled, labels) <= nll(logits, labels) * (1 + 1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 5))
def test_temperature_follows_the_scale_of_the_logits_and_ignores_constants(seed, factor):
    logits, labels = draw(seed)
    temperature = fit_temperature(logits, labels)
    constants = np.random.default_rng(seed).normal(size=(len(logits), 1)) * 100
    assert fit_temperature(logits * factor, labels) == pytest.approx(temperature * factor, rel=1e-9)
    assert fit_temperature(logits + constants, labels) == pytest.approx(temperature, rel=1e-8)


def test_bounds_and_uninformative_logits():
    separable = np.array([[5.0, 0.0], [0.0, 5.0]])
    assert fit_temperature(separable, [0, 1]) == 0.01
    assert fit_temperature(separable, [1, 0]) == 100.0
    assert fit_temperature(np.full((4, 3), 7.0), [0, 1, 2, 0]) == 1.0


def test_two_point_closed_form():
    # Gap 4 and right 3 times of 4: the NLL is least where sigmoid(4 / T) = 3 / 4.
    logits = np.tile([4.0, 0.0], (4, 1))
    assert fit_temperature(logits, [0, 0, 0, 1]) == pytest.approx(4 / np.log(3), rel=1e-10)


def test_extreme_logits():
    logits = np.tile([1e4, -1e4], (4, 1))
    assert fit_temperature(logits, [0, 0, 0, 1]) == 100.0
    assert fit_temperature(logits, [0, 0, 0, 0]) == 0.01
    assert np.isfinite(nll(scale(logits, 0.01), [0, 0, 0, 1]))


def test_impossible_classes_are_as_if_absent():
    logits, labels = draw(5, n=200, classes=3)
    with_impossible = np.concatenate([logits, np.full((200, 1), -np.inf)], axis=1)
    assert fit_temperature(with_impossible, labels) == fit_temperature(logits, labels)


def test_examples_whose_true_class_is_impossible_are_left_out():
    logits, labels = draw(6, n=200, classes=3)
    impossible = np.array([[1.0, 0.0, -np.inf]])
    more = np.concatenate([logits, impossible])
    assert fit_temperature(more, np.append(labels, 2)) == fit_temperature(logits, labels)
    assert fit_temperature(impossible, [2]) == 1.0


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(InputError, match="temperature is"):
        scale(np.zeros((1, 2)), temperature)
