"""Equal-mass, class-wise, thresholded, debiased and smooth errors, and the decomposition of the Brier score."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import binning, smooth
from mixup_jax.metrics import logits as reading

confidences = st.one_of(st.sampled_from([0.0, 0.2, 0.5, 0.6, 2 / 3, 1.0]), st.floats(0, 1))
examples = st.lists(st.tuples(confidences, st.booleans()), min_size=1, max_size=50)
bin_counts = st.sampled_from([1, 2, 7, 15, 100])
norms = st.sampled_from(["l1", "l2", "max"])


def arrays(pairs):
    return np.array([confidence for confidence, _ in pairs]), np.array([correct for _, correct in pairs])


def network(seed, n=200, k=4, spread=2.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (n, k))
    return logits, np.argmax(0.7 * logits + rng.gumbel(0, 1, logits.shape), axis=1)


# Equally wide bins


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiplying_places_every_edge_and_its_neighbours_as_searching_does(dtype):
    for n_bins in [*range(1, 130), 1000, 2048, 4095, 4096, 5000]:
        edges = binning.bin_edges(n_bins)
        near = edges.astype(dtype)
        near = np.clip(np.concatenate([near, np.nextafter(near, dtype(2)), np.nextafter(near, dtype(-1))]), 0, 1)
        near = near.astype(np.float64)
        np.testing.assert_array_equal(
            binning.equal_width_index(near, edges), binning.bin_index(near, edges), str(n_bins)
        )


def test_blocks_do_not_show_and_float32_is_read_as_it_is(monkeypatch):
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(1000).astype(np.float32), rng.random(1000) < 0.5
    whole = metrics.bin_confidences(confidence, correct)
    wide = metrics.bin_confidences(confidence.astype(np.float64), correct)
    monkeypatch.setattr(binning, "_BLOCK", 37)
    for other in (wide, metrics.bin_confidences(confidence, correct)):
        np.testing.assert_array_equal(whole.count, other.count)
        np.testing.assert_array_equal(whole.correct_sum, other.correct_sum)
        np.testing.assert_allclose(whole.confidence_sum, other.confidence_sum, rtol=1e-13)


@settings(deadline=None, max_examples=60)
@given(examples, bin_counts)
def test_norms_are_ordered_and_the_direction_adds_up(pairs, n_bins):
    bins = metrics.bin_confidences(*arrays(pairs), n_bins)
    l1, l2, largest = (metrics.ece(bins, norm) for norm in ("l1", "l2", "max"))
    assert l1 <= l2 + 1e-12
    assert l2 <= largest + 1e-12
    assert largest == metrics.mce(bins) <= 1
    over, under = metrics.ece_direction(bins)
    assert over + under == pytest.approx(l1, abs=1e-12)
    assert over - under == pytest.approx(metrics.confidence_minus_accuracy(bins), abs=1e-12)
    assert metrics.oe(bins) <= over + 1e-12


# Bins of equal mass


def cuts_by_hand(confidence, n_bins):
    ends = [0, *np.cumsum(np.unique(confidence, return_counts=True)[1])]
    wanted = [k * len(confidence) for k in range(1, n_bins)]
    return sorted({0, len(confidence)} | {min(ends, key=lambda end: (abs(n_bins * end - w), end)) for w in wanted})


@settings(deadline=None, max_examples=150)
@given(examples, bin_counts)
def test_equal_mass_bins_follow_their_rule_and_their_edges(pairs, n_bins):
    confidence, correct = arrays(pairs)
    bins = metrics.bin_equal_mass(confidence, correct, n_bins)
    assert [0, *np.cumsum(bins.count)] == cuts_by_hand(confidence, n_bins)
    assert bins.count.min() > 0
    assert (bins.edges[0], bins.edges[-1]) == (0.0, 1.0)
    index = binning.bin_index(confidence, bins.edges)
    np.testing.assert_array_equal(np.bincount(index, minlength=bins.n_bins), bins.count)
    np.testing.assert_array_equal(np.bincount(index, correct, minlength=bins.n_bins), bins.correct_sum)
    np.testing.assert_allclose(np.bincount(index, confidence, minlength=bins.n_bins), bins.confidence_sum, rtol=1e-12)
    gap = abs(confidence.mean() - correct.mean())
    assert gap - 1e-12 <= metrics.adaptive_ece(confidence, correct, n_bins) <= 1


@settings(deadline=None, max_examples=60)
@given(examples, st.randoms())
def test_the_order_of_tied_examples_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    for metric in (metrics.adaptive_ece, metrics.smooth_ece):
        assert metric(*arrays(pairs)) == pytest.approx(metric(*arrays(shuffled)), abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.8, 1.0])
def test_a_constant_predictor_reports_its_true_gap(value):
    correct = np.arange(40) < 22
    gap = abs(value - 0.55)
    assert metrics.adaptive_ece(np.full(40, value), correct) == pytest.approx(gap)
    assert metrics.smooth_ece(np.full(40, value), correct) == pytest.approx(gap, abs=1e-9)


def test_a_large_group_of_ties_leaves_the_few_others_their_own_bin():
    confidence = np.r_[np.linspace(0.5, 0.6, 3), np.ones(97)]
    assert metrics.bin_equal_mass(confidence, np.ones(100, bool)).count.tolist() == [3, 97]


# Class by class


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), norms, st.booleans(), st.sampled_from([0.0, 1e-3, 0.2, 0.999]))
def test_classwise_ece_is_that_of_each_column(seed, norm, equal_mass, threshold):
    logits, labels = network(seed, n=60)
    probability = np.exp(metrics.log_softmax(logits))
    bin_them = metrics.bin_equal_mass if equal_mass else metrics.bin_confidences
    errors = []
    for k in range(4):
        kept = probability[:, k] > threshold
        bins = bin_them(probability[kept, k], labels[kept] == k, 15)
        errors.append(metrics.ece(bins, norm) if bins.n else 0.0)
    expected = {"l1": np.mean(errors), "l2": np.sqrt(np.mean(np.square(errors))), "max": max(errors)}[norm]
    found = metrics.classwise_ece(logits, labels, norm=norm, equal_mass=equal_mass, threshold=threshold)
    assert found == pytest.approx(expected, abs=1e-9)
    assert 0 <= found <= 1
    if equal_mass and norm == "l1":
        assert metrics.tace(logits, labels, threshold=threshold) == found


def test_blocks_of_classes_and_examples_do_not_show(monkeypatch):
    logits, labels = network(1, n=100, k=40)

    def numbers():
        return [
            metrics.classwise_ece(logits, labels),
            metrics.classwise_ece(logits, labels, equal_mass=True),
            *metrics.brier_decomposition_of_classes(logits, labels),
            metrics.nll(logits, labels),
            metrics.brier(logits, labels),
            metrics.msp_score(logits).sum(),
            metrics.confidence_and_correct(logits, labels)[0].sum(),
        ]

    whole = numbers()
    monkeypatch.setattr(reading, "BLOCK", 700)
    monkeypatch.setattr("mixup_jax.metrics.classwise._KEPT", (1, 1))
    assert numbers() == pytest.approx(whole, rel=1e-12)


def test_a_bad_row_in_a_later_block_is_named_by_its_own_number(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 8)
    for value, message in [(np.nan, r"the first nan at \[7, 1\]"), (np.inf, r"the first inf at \[7, 1\]")]:
        logits = np.zeros((10, 4))
        logits[7, 1] = value
        with pytest.raises(InputError, match=message):
            metrics.confidence_and_correct(logits, np.zeros(10, int))
    logits = np.zeros((10, 4))
    logits[7] = -np.inf
    with pytest.raises(InputError, match="row 7 of logits is -inf"):
        metrics.nll(logits, np.zeros(10, int))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(-1e4, 1e4))
def test_a_constant_added_to_each_row_changes_nothing(seed, constant):
    logits, labels = network(seed, n=30)
    moved = logits + constant * np.arange(30)[:, None]

    def numbers(z):
        confidence, correct = metrics.confidence_and_correct(z, labels)
        return metrics.classwise_ece(z, labels), metrics.smooth_ece(confidence, correct), metrics.nll(z, labels)

    assert numbers(moved) == pytest.approx(numbers(logits), abs=1e-6)


def test_extreme_logits_give_finite_calibration():
    logits = np.array([[1e4, -1e4, -np.inf], [-1e4, 1e4, 0.0], [0.0, -np.inf, -np.inf], [1e308, -1e308, 0.0]])
    labels = np.array([0, 0, 0, 1])
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    bins = metrics.bin_confidences(confidence, correct)
    assert [metrics.ece(bins), metrics.adaptive_ece(confidence, correct)] == [0.5, 0.5]
    assert metrics.smooth_ece(confidence, correct) == pytest.approx(0.5)
    assert metrics.classwise_ece(logits, labels) == pytest.approx(1 / 3)
    assert 0 <= metrics.tace(logits, labels) <= 1
    assert metrics.brier_decomposition_of_classes(logits, labels).brier == pytest.approx(1.0)


# Debiased


@settings(deadline=None, max_examples=60)
@given(examples, bin_counts)
def test_removing_bias_never_raises_the_error(pairs, n_bins):
    bins = metrics.bin_confidences(*arrays(pairs), n_bins)
    for norm in ("l1", "l2"):
        assert 0 <= metrics.debiased_ece(bins, norm) <= metrics.ece(bins, norm) + 1e-12


def test_debiased_errors_against_the_published_recipe():
    rng = np.random.default_rng(0)
    confidence = rng.random(400)
    bins = metrics.bin_confidences(confidence, rng.random(400) < confidence**1.5, 10)
    weight, gap, accuracy = bins.count / 400, bins.accuracy - bins.confidence, bins.accuracy
    unbiased = sum(
        w * (g**2 - a * (1 - a) / (n - 1)) for w, g, a, n in zip(weight, gap, accuracy, bins.count, strict=True)
    )
    assert metrics.debiased_ece(bins) == pytest.approx(math.sqrt(unbiased))
    drawn = rng.normal(accuracy, np.sqrt(accuracy * (1 - accuracy) / bins.count), (200_000, 10))
    resampled = (np.abs(drawn - bins.confidence) @ weight).mean()
    assert metrics.debiased_ece(bins, "l1") == pytest.approx(2 * metrics.ece(bins) - resampled, abs=2e-4)


def test_the_debiased_square_is_right_on_average_where_the_plain_one_is_not():
    rng = np.random.default_rng(1)
    confidence = np.repeat([0.65, 0.75, 0.85], 20)
    squares, plain = [], []
    for _ in range(2000):
        bins = metrics.bin_confidences(confidence, rng.random(60) < confidence - 0.3, 10)
        squares.append(metrics.debiased_ece(bins) ** 2)
        plain.append(metrics.ece(bins, "l2") ** 2)
    assert np.mean(squares) == pytest.approx(0.09, abs=0.004)
    assert np.mean(plain) > 0.097


def test_a_bin_with_one_example_adds_nothing():
    assert metrics.debiased_ece(metrics.bin_confidences([0.5, 0.9], [True, False], 10)) == 0.0
    assert metrics.debiased_ece(metrics.bin_confidences([0.5, 0.9], [True, False], 10), "l1") == 0.0


# Smooth


def smooth_ece_by_hand(confidence, correct):
    at = (np.arange(2000) + 0.5) / 2000
    images = [sign * confidence + 2 * m for m in range(-3, 4) for sign in (1, -1)]

    def error(s):
        kernel = sum(np.exp(-np.square((at[:, None] - image) / s) / 2) for image in images)
        return np.abs(kernel @ (correct - confidence)).mean() / (s * math.sqrt(2 * math.pi) * len(confidence))

    low, high = 0.0, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > middle else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize(("seed", "gap"), [(0, 0.0), (1, 0.1), (2, -0.2), (3, 0.8)])
def test_smooth_ece_is_the_fixed_point_of_reflected_gaussian_smoothing(seed, gap):
    rng = np.random.default_rng(seed)
    confidence = np.clip(rng.beta(3, 1, 40), 0, 1)
    confidence[:8] = [0, 1, 1, 1, 1, 0.5, 0.5, 0.5]  # the ends, where reflection matters, and ties
    correct = rng.random(40) < confidence - gap
    assert metrics.smooth_ece(confidence, correct) == pytest.approx(smooth_ece_by_hand(confidence, correct), abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(examples)
def test_smooth_ece_lies_between_the_gap_of_the_means_and_one_and_moves_little(pairs):
    confidence, correct = arrays(pairs)
    found = metrics.smooth_ece(confidence, correct)
    assert abs(confidence.mean() - correct.mean()) - 1e-9 <= found <= 1
    # Crossing a bin's edge by a millionth may move ECE by 1; here nothing jumps.
    assert metrics.smooth_ece(np.clip(confidence + 1e-6, 0, 1), correct) == pytest.approx(found, abs=2e-3)


def test_the_grid_keeps_residuals_and_their_places():
    rng = np.random.default_rng(2)
    confidence, correct = np.r_[0.0, 1.0, rng.random(100)], np.r_[True, False, rng.random(100) < 0.5]
    grid = smooth.on_grid(confidence, correct)
    assert grid.sum() == pytest.approx((correct - confidence).sum())
    at = np.arange(smooth.GRID + 1) / smooth.GRID
    assert grid @ at == pytest.approx((correct - confidence) @ confidence)


# Decomposition


@settings(deadline=None, max_examples=80)
@given(examples, bin_counts)
def test_the_decomposition_adds_up(pairs, n_bins):
    confidence, correct = arrays(pairs)
    parts = metrics.brier_decomposition(confidence, correct, n_bins)
    assert parts.brier == pytest.approx(np.mean(np.square(confidence - correct)), abs=1e-12)
    total = parts.reliability - parts.resolution + parts.uncertainty
    assert total + parts.within_bin_variance - parts.within_bin_covariance == pytest.approx(parts.brier, abs=1e-12)
    assert parts.reliability == pytest.approx(
        metrics.ece(metrics.bin_confidences(confidence, correct, n_bins), "l2") ** 2, abs=1e-12
    )
    assert min(parts._replace(within_bin_covariance=0.0)) >= -1e-12
    assert parts.resolution <= parts.uncertainty + 1e-12


def test_without_spread_in_the_bins_murphys_three_terms_suffice():
    confidence, correct = np.repeat([0.3, 0.8], 10), np.r_[np.arange(10) < 5, np.arange(10) < 7]
    parts = metrics.brier_decomposition(confidence, correct, 5)
    assert parts.brier == pytest.approx(0.025 - 0.01 + 0.24)
    assert parts.reliability == pytest.approx(0.5 * 0.2**2 + 0.5 * 0.1**2)
    assert parts.resolution == pytest.approx(0.1**2)
    assert parts.uncertainty == pytest.approx(0.6 * 0.4)
    assert parts.within_bin_variance == pytest.approx(0, abs=1e-12)


def test_the_decomposition_of_classes_is_that_of_each_class_and_of_the_brier_score():
    logits, labels = network(3)
    probability = np.exp(metrics.log_softmax(logits))
    each = [metrics.brier_decomposition(probability[:, k], labels == k) for k in range(4)]
    found = metrics.brier_decomposition_of_classes(logits, labels)
    assert found == pytest.approx(tuple(np.sum(each, axis=0)), abs=1e-12)
    assert found.brier == pytest.approx(metrics.brier(logits, labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.adaptive_ece([], []), "no examples"),
        (lambda: metrics.adaptive_ece([0.5], [True], 0), "n_bins is 0"),
        (lambda: metrics.smooth_ece([], []), "no examples"),
        (lambda: metrics.smooth_ece([np.nan], [True]), "confidence nan"),
        (lambda: metrics.brier_decomposition([], []), "no examples"),
        (lambda: metrics.debiased_ece(metrics.Bins.empty(3)), "no examples"),
        (lambda: metrics.debiased_ece(metrics.bin_confidences([0.5], [True]), "max"), "unknown norm 'max'"),
        (lambda: metrics.ece(metrics.bin_confidences([0.5], [True]), "l22"), "did you mean 'l2'"),
        (lambda: metrics.classwise_ece(np.zeros((1, 2)), [0], norm="l3"), "unknown norm 'l3'"),
        (lambda: metrics.classwise_ece(np.zeros((1, 2)), [-1]), "no label"),
        (lambda: metrics.tace(np.zeros((1, 2)), [0], threshold=1.0), "threshold is 1.0"),
        (lambda: metrics.nll(np.zeros(3), [0]), r"logits have shape \[3\]"),
    ],
)
def test_malformed_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("n", [1, 2, 7, 500])
@pytest.mark.parametrize("sharpness", [1, 30])
def test_smooth_ece_of_predictions_that_are_all_right_or_all_wrong_is_the_gap_of_the_means(n, sharpness):
    # Smoothing moves the gaps, and where all have one sign it loses none of them, also next to 0 and 1.
    logits = sharpness * np.random.default_rng(n).normal(0, 3, (n, 3))
    confidence = metrics.max_probability(logits)
    for correct in (True, False):
        gap = abs(correct - confidence.mean())
        assert metrics.smooth_ece(confidence, np.full(n, correct)) == pytest.approx(gap, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 10), st.booleans())
def test_class_wise_errors_after_a_temperature_are_those_of_the_divided_logits(seed, temperature, equal_mass):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (40, 5)).astype(np.float32), rng.integers(0, 5, 40)
    divided = logits.astype(np.float64) / temperature
    found = metrics.classwise_ece(logits, labels, 10, equal_mass=equal_mass, temperature=temperature)
    assert found == pytest.approx(metrics.classwise_ece(divided, labels, 10, equal_mass=equal_mass), abs=1e-9)
    assert metrics.tace(logits, labels, temperature=temperature) == pytest.approx(
        metrics.tace(divided, labels), abs=1e-9
    )


def test_class_wise_errors_refuse_a_temperature_of_zero():
    with pytest.raises(InputError, match="temperature"):
        metrics.classwise_ece(np.zeros((2, 3)), np.array([0, 1]), temperature=0.0)
