from fractions import Fraction

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import confidence_and_correct, log_softmax, max_probability, msp_score

logit_rows = hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=st.floats(-50, 50))


@settings(deadline=None, max_examples=60)
@given(logit_rows)
def test_log_softmax_and_confidence_agree_with_scipy(logits):
    np.testing.assert_allclose(log_softmax(logits), scipy.special.log_softmax(logits, axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(max_probability(logits), scipy.special.softmax(logits, axis=1).max(axis=1), rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(logit_rows)
def test_msp_score_is_the_logarithm_of_the_probability_of_all_other_classes(logits):
    probabilities = np.sort(scipy.special.softmax(logits, axis=1), axis=1)
    np.testing.assert_allclose(msp_score(logits), np.log(probabilities[:, :-1].sum(axis=1)), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(logit_rows, st.floats(-1e3, 1e3))
def test_a_constant_added_to_a_row_changes_nothing(logits, constant):
    np.testing.assert_allclose(log_softmax(logits + constant), log_softmax(logits), atol=1e-9)
    np.testing.assert_allclose(msp_score(logits + constant), msp_score(logits), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
def test_top_k_accuracy_is_that_of_sorting(seed, classes):
    generator = np.random.default_rng(seed)
    logits = generator.integers(0, 4, (20, classes)).astype(np.float32)  # with many ties
    labels = generator.integers(0, classes, 20)
    order = np.argsort(-logits, axis=1, kind="stable")
    for k in range(1, classes + 2):
        expected = np.mean([label in row[:k] for label, row in zip(labels, order, strict=True)])
        assert metrics.top_k_accuracy(logits, labels, k) == expected
    assert metrics.top_k_accuracy(logits, labels, 1) == np.mean(confidence_and_correct(logits, labels)[1])
    with pytest.raises(InputError, match="k is 0; expected a whole number of at least 1"):
        metrics.top_k_accuracy(logits, labels, 0)
    for k in (2.5, 2.0, True, "2"):
        with pytest.raises(InputError, match="expected a whole number of at least 1"):
            metrics.top_k_accuracy(logits, labels, k)


def test_msp_score_keeps_the_order_of_confidences_that_round_to_one():
    gaps = np.array([50.0, 100.0, 800.0, 5000.0])
    logits = np.stack([gaps, np.zeros(4)], axis=1)
    assert (max_probability(logits) == 1.0).all()
    np.testing.assert_allclose(msp_score(logits), -gaps)


def test_msp_score_of_a_certain_prediction_is_minus_infinity():
    assert msp_score(np.array([[0.0, -np.inf, -np.inf], [0.0, 0.0, -np.inf]])).tolist() == [-np.inf, np.log(0.5)]


def test_extreme_logits_and_impossible_classes_stay_exact():
    logits = np.array([[1e4, -1e4, -np.inf], [-1e4, -1e4, -np.inf], [1e308, -1e308, 0.0]])
    np.testing.assert_array_equal(max_probability(logits), [1.0, 0.5, 1.0])
    np.testing.assert_array_equal(log_softmax(logits)[0], [0.0, -2e4, -np.inf])
    assert not np.isnan(log_softmax(logits)).any()


def test_confidence_is_computed_in_float64_even_from_float32_logits():
    logits = np.array([[17.5, 0.0]], np.float32)
    exact = float(1 / (1 + Fraction(float(np.exp(-17.5)))))
    assert max_probability(logits).dtype == np.float64
    np.testing.assert_allclose(max_probability(logits), exact, rtol=0, atol=1e-15)
    assert max_probability(logits)[0] < 1.0


def test_prediction_is_the_first_of_equal_classes():
    confidence, correct = confidence_and_correct(np.zeros((3, 4)), np.array([0, 1, 3]))
    assert correct.tolist() == [True, False, False]
    assert confidence.tolist() == [0.25] * 3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([2, 63, 64, 65, 200]), st.sampled_from([np.float32, np.float64]))
def test_confidence_and_correctness_of_few_and_of_many_classes_agree_with_scipy(seed, classes, dtype):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(0, 3, (40, classes)), 1).astype(dtype)  # rounded, so that some rows tie
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    logits[:, 0] = 5.0
    labels = rng.integers(0, classes, 40)
    confidence, correct = confidence_and_correct(logits, labels)
    exact = scipy.special.softmax(logits.astype(np.float64), axis=1).max(axis=1)
    np.testing.assert_allclose(confidence, exact, rtol=1e-13)
    np.testing.assert_array_equal(correct, logits.argmax(axis=1) == labels)
    np.testing.assert_array_equal(max_probability(logits), confidence)


def test_equal_logits_of_many_classes_have_exactly_one_over_k():
    confidence, correct = confidence_and_correct(np.full((3, 1000), -7.3, np.float32), np.array([0, 1, 999]))
    assert confidence.tolist() == [1 / 1000] * 3
    assert correct.tolist() == [True, False, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_row_among_many_classes_is_refused(bad):
    logits = np.zeros((5, 300), np.float32)
    logits[3, 299] = bad
    with pytest.raises(InputError, match=r"\[3, 299\]"):
        confidence_and_correct(logits, np.zeros(5, int))


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, -1], "no label"),
        (np.zeros((2, 3)), [0, 3], r"outside \[-1, 3\)"),
        (np.zeros((2, 3)), [[0], [1]], r"shape \[2, 1\]"),
        (np.zeros(3), [0], r"shape \[3\]"),
        (np.array([[0.0, np.nan]]), [0], "NaN"),
        (np.array([[-np.inf, -np.inf]]), [0], "-inf in every class"),
    ],
)
def test_malformed_input_is_refused(logits, labels, message):
    with pytest.raises(InputError, match=message):
        confidence_and_correct(logits, labels)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 10, 50]))
def test_scores_do_not_depend_on_the_order_of_the_classes(seed, classes):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(0, 3, (20, classes)) * 2) / 2
    permuted = rng.permuted(logits, axis=1)
    for score in (metrics.msp_score, metrics.entropy_score, metrics.energy_score, metrics.max_logit_score):
        np.testing.assert_array_equal(score(permuted), score(logits))


def test_rows_of_the_same_logits_in_another_order_are_ties():
    rng = np.random.default_rng(0)
    row = rng.normal(0, 3, 10)
    copies, permuted = np.tile(row, (500, 1)), rng.permuted(np.tile(row, (500, 1)), axis=1)
    score_in, score_out = metrics.msp_score(copies), metrics.msp_score(permuted)
    assert metrics.auroc(score_in, score_out) == 0.5
    assert metrics.fpr95_ood(score_in, score_out) == 1.0
