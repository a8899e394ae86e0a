import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixup_jax.errors import InputError
from mixup_jax.metrics import brier, examine, log_softmax, nll

labelled_logits = hnp.arrays(np.float64, (12, 4), elements=st.floats(-12, 12))
some_labels = hnp.arrays(np.int64, 12, elements=st.integers(0, 3))


@settings(deadline=None, max_examples=40)
@given(labelled_logits, some_labels)
def test_nll_equals_scikit_learn_log_loss(logits, labels):
    # scikit-learn floors probabilities at 2e-16; these logits stay above that.
    probabilities = np.exp(log_softmax(logits))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    golden = sklearn.metrics.log_loss(labels, probabilities, labels=range(4))
    np.testing.assert_allclose(nll(logits, labels), golden, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(labelled_logits, some_labels)
def test_brier_is_the_sum_over_classes_and_lies_between_0_and_2(logits, labels):
    probabilities = np.exp(log_softmax(logits))
    golden = sum(sklearn.metrics.mean_squared_error(labels == k, probabilities[:, k]) for k in range(4))
    np.testing.assert_allclose(brier(logits, labels), golden, rtol=1e-12, atol=1e-15)
    assert 0 <= brier(logits, labels) <= 2


def test_closed_forms():
    uniform, labels = np.zeros((5, 10)), np.arange(5)
    assert nll(uniform, labels) == pytest.approx(np.log(10))
    assert brier(uniform, labels) == pytest.approx(0.9)
    certain = np.array([[1e4, -1e4]])
    assert (nll(certain, [0]), brier(certain, [0])) == (0.0, 0.0)
    assert (nll(certain, [1]), brier(certain, [1])) == (2e4, 2.0)


def test_small_probabilities_are_not_floored():
    assert nll(np.array([[0.0, -800.0]]), [1]) == pytest.approx(800.0)


def test_nll_is_infinite_when_the_true_class_is_impossible_and_brier_is_not():
    logits = np.array([[0.0, -np.inf], [0.0, 0.0]])
    assert nll(logits, [1, 0]) == np.inf
    assert brier(logits, [1, 0]) == pytest.approx((2 + 0.5) / 2)


def test_unlabelled_examples_are_refused_and_not_read_as_the_last_class():
    for metric in (nll, brier):
        with pytest.raises(InputError, match="no label"):
            metric(np.zeros((1, 2)), [-1])


@pytest.mark.parametrize(("largest", "expected"), [(22.0, 1.785259563500353e-08), (40.0, 64 * np.exp(-40.0))])
def test_nll_of_a_confident_right_prediction_keeps_its_relative_precision(largest, expected):
    logits = np.zeros((3, 65))
    logits[:, 7] = largest  # log(1 + 64 exp(-22)) by mpmath with 50 digits; at 40 the next term is below 1e-15
    assert nll(logits, [7, 7, 7]) == pytest.approx(expected, rel=1e-14, abs=0.0)
    np.testing.assert_allclose(-examine(logits, [7, 7, 7]).log_likelihood, expected, rtol=1e-14)
    np.testing.assert_allclose(-log_softmax(logits)[:, 7], expected, rtol=1e-14)
