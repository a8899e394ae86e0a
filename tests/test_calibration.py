import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from mixup_jax.errors import InputError
from mixup_jax.metrics import Bins, bin_confidences, confidence_minus_accuracy, ece, mce, oe

# Edges of several bin counts, their neighbours, and anything between.
edge_like = st.builds(
    lambda m, bins, side: float(np.clip(np.nextafter(m / bins, side) if side >= 0 else m / bins, 0, 1)),
    st.integers(0, 15),
    st.sampled_from([15, 20, 100]),
    st.sampled_from([-1, 0, 2]),
)
examples = st.lists(st.tuples(st.one_of(edge_like, st.floats(0, 1)), st.booleans()), min_size=1, max_size=60)
bin_counts = st.sampled_from([1, 2, 7, 15, 100])


def arrays(pairs):
    return np.array([confidence for confidence, _ in pairs]), np.array([correct for _, correct in pairs])


@settings(deadline=None, max_examples=100)
@given(examples, bin_counts)
def test_oe_never_exceeds_ece_nor_ece_one_and_mce_bounds_ece(pairs, n_bins):
    bins = bin_confidences(*arrays(pairs), n_bins)
    assert 0 <= oe(bins) <= ece(bins) <= 1
    assert ece(bins) <= mce(bins) + 1e-12
    assert mce(bins) <= 1


@settings(deadline=None, max_examples=100)
@given(examples, bin_counts)
def test_ece_is_at_least_the_gap_of_the_means(pairs, n_bins):
    confidence, correct = arrays(pairs)
    bins = bin_confidences(confidence, correct, n_bins)
    assert confidence_minus_accuracy(bins) == pytest.approx(confidence.mean() - correct.mean(), abs=1e-12)
    assert ece(bins) >= abs(confidence_minus_accuracy(bins)) - 1e-12


@settings(deadline=None, max_examples=60)
@given(examples, st.sampled_from([1, 2, 5, 15, 50]))
def test_halving_the_bins_never_lowers_ece(pairs, n_bins):
    confidence, correct = arrays(pairs)
    assert (
        ece(bin_confidences(confidence, correct, 2 * n_bins))
        >= ece(bin_confidences(confidence, correct, n_bins)) - 1e-12
    )


@settings(deadline=None, max_examples=60)
@given(examples, bin_counts, st.randoms())
def test_the_order_of_examples_does_not_matter(pairs, n_bins, random):
    shuffled = random.sample(pairs, len(pairs))
    for metric in (ece, oe, mce):
        one, other = (metric(bin_confidences(*arrays(order), n_bins)) for order in (pairs, shuffled))
        assert one == pytest.approx(other, abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(examples, bin_counts)
def test_bins_equal_scikit_learns_calibration_curve(pairs, n_bins):
    confidence, correct = arrays(pairs)
    bins = bin_confidences(confidence, correct, n_bins)
    accuracy, mean_confidence = calibration_curve(
        correct, confidence, n_bins=n_bins, strategy="uniform", pos_label=True
    )
    occupied = bins.count > 0
    np.testing.assert_allclose(bins.accuracy[occupied], accuracy, atol=1e-12)
    np.testing.assert_allclose(bins.confidence[occupied], mean_confidence, atol=1e-12)
    assert np.isnan(bins.accuracy[~occupied]).all()
    assert np.isnan(bins.confidence[~occupied]).all()


@pytest.mark.parametrize("n_bins", [1, 3, 10, 15, 100])
def test_an_edge_belongs_to_the_bin_below_and_zero_to_the_first(n_bins):
    edges = np.linspace(0, 1, n_bins + 1)
    correct = np.zeros(n_bins, bool)
    assert bin_confidences(edges[1:], correct, n_bins).count.tolist() == [1] * n_bins
    above = bin_confidences(np.nextafter(edges[:-1], 2), correct, n_bins)
    assert above.count.tolist() == [1] * n_bins
    assert bin_confidences([0.0], [False], n_bins).count[0] == 1


def test_certain_predictions_count():
    bins = bin_confidences([1.0, 1.0, 0.0], [True, False, False], 100)
    assert bins.n == 3
    assert bins.count[-1] == 2
    assert ece(bins) == pytest.approx(1 / 3)
    assert oe(bins) == pytest.approx(1 / 3)
    assert mce(bins) == 0.5


def test_hand_computed_example():
    # Bin (0.5, 1]: 4 examples, confidence 0.8, accuracy 0.5; bin [0, 0.5]: 1 example, 0.4 and right.
    bins = bin_confidences([0.7, 0.8, 0.8, 0.9, 0.4], [True, False, True, False, True], 2)
    assert ece(bins) == pytest.approx(0.8 * 0.3 + 0.2 * 0.6)
    assert oe(bins) == pytest.approx(0.8 * 0.8 * 0.3)
    assert mce(bins) == pytest.approx(0.6)
    assert confidence_minus_accuracy(bins) == pytest.approx(0.72 - 0.6)


@settings(deadline=None, max_examples=60)
@given(st.lists(examples, min_size=1, max_size=4), bin_counts)
def test_merging_equals_binning_at_once_in_any_grouping(parts, n_bins):
    several = [bin_confidences(*arrays(part), n_bins) for part in parts]
    at_once = bin_confidences(*arrays([pair for part in parts for pair in part]), n_bins)
    from_left = functools.reduce(Bins.merge, several, Bins.empty(n_bins))
    from_right = functools.reduce(lambda right, left: left.merge(right), reversed(several))
    for merged in (from_left, from_right):
        np.testing.assert_array_equal(merged.count, at_once.count)
        np.testing.assert_array_equal(merged.correct_sum, at_once.correct_sum)
        np.testing.assert_allclose(merged.confidence_sum, at_once.confidence_sum, rtol=1e-12)


def test_bins_of_different_edges_do_not_merge():
    with pytest.raises(ValueError, match="different edges"):
        Bins.empty(15).merge(Bins.empty(100))


def test_metrics_of_no_examples_are_refused():
    for metric in (ece, oe, mce, confidence_minus_accuracy):
        with pytest.raises(InputError, match="no examples"):
            metric(Bins.empty(15))


@pytest.mark.parametrize(
    ("confidence", "correct", "n_bins", "message"),
    [
        ([0.5, 1.5], [True, True], 15, "confidence 1.5 of example 1"),
        ([-0.1], [True], 15, "confidence -0.1"),
        ([np.nan], [True], 15, "confidence nan"),
        ([0.5, 0.5], [True], 15, r"shape \[2\] and correct \[1\]"),
        ([[0.5]], [[True]], 15, r"shape \[1, 1\]"),
        ([0.5, 0.5], [1, 7], 15, "correct is 7 for example 1"),
        ([0.5], [True], 0, "n_bins is 0"),
        ([0.5], [True], 2.5, "n_bins is 2.5"),
    ],
)
def test_malformed_input_is_refused(confidence, correct, n_bins, message):
    with pytest.raises(InputError, match=message):
        bin_confidences(confidence, correct, n_bins)


def test_bins_of_inconsistent_lengths_are_refused():
    with pytest.raises(InputError, match=r"expected \[M \+ 1\], \[M\]"):
        Bins(np.linspace(0, 1, 3), np.zeros(3, np.int64), np.zeros(2), np.zeros(2))


def test_a_confidence_of_m_over_bins_is_in_bin_m_of_the_usual_numbers_of_bins_and_not_of_all():
    def above(n_bins):
        """How many confidences m / n_bins are in the bin above m."""
        fractions = np.arange(1, n_bins + 1) / n_bins
        return sum(
            int(np.argmax(bin_confidences([fraction], [True], n_bins).count)) != m
            for m, fraction in enumerate(fractions)
        )

    assert [above(n_bins) for n_bins in (6, 15, 98, 100)] == [1, 0, 48, 0]
