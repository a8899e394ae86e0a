import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics.calibration import bin_equal_mass, equal_mass_cuts, tie_ends

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (400, 5))
LABELS = np.argmax(LOGITS + RNG.gumbel(0, 2, LOGITS.shape), axis=1)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = RNG.normal(3, 2, 2000)
    low, high = metrics.bootstrap_interval_of(lambda x: float(x.mean()), (values,))
    half = scipy.stats.norm.ppf(0.975) * values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def test_it_agrees_with_the_intervals_made_for_one_family():
    confidence, correct = metrics.confidence_and_correct(LOGITS, LABELS)
    family = metrics.bootstrap_intervals(confidence, correct, [15])["ece_15"]
    general = metrics.bootstrap_interval_of(
        lambda c, k: metrics.ece(metrics.bin_confidences(c, k, 15)), (confidence, correct)
    )
    assert general == pytest.approx(family, abs=0.006)


def test_arrays_of_a_set_are_resampled_together_and_sets_apart():
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def statistic(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
        seen.append((a, b, c))
        return 0.0

    metrics.bootstrap_interval_of(statistic, (np.arange(50), np.arange(50) * 2), (np.arange(50),), resamples=3)
    for a, b, c in seen[:3]:
        np.testing.assert_array_equal(2 * a, b)
        assert not np.array_equal(a, c)
        assert len(np.unique(a)) < 50


def test_every_further_number_gets_its_interval():
    for statistic in (metrics.tace, metrics.classwise_ece):
        low, high = metrics.bootstrap_interval_of(statistic, (LOGITS, LABELS), resamples=30)
        assert low < statistic(LOGITS, LABELS) < high
    score_in, score_out = RNG.normal(0, 1, 300), RNG.normal(1, 1, 200)
    for statistic in (metrics.aupr_in, metrics.aupr_out, metrics.fpr95_ood, metrics.fpr95_id):
        low, high = metrics.bootstrap_interval_of(statistic, (score_in,), (score_out,), resamples=100)
        assert low < statistic(score_in, score_out) < high


def test_differences_of_a_run_to_itself_are_nothing_and_pairing_narrows():
    same = metrics.paired_bootstrap_difference_of(metrics.tace, [(LOGITS, LABELS)], [(LOGITS, LABELS)], resamples=10)
    assert same == (0.0, 0.0, 0.0)
    sharper = metrics.paired_bootstrap_difference_of(
        metrics.nll, [(2 * LOGITS, LABELS)], [(LOGITS, LABELS)], resamples=200
    )
    assert sharper.difference == pytest.approx(metrics.nll(2 * LOGITS, LABELS) - metrics.nll(LOGITS, LABELS))
    assert sharper.low > 0


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "nothing to resample"),
        ([()], "nothing to resample"),
        ([(np.ones(3), np.ones(4))], r"shapes \[3\], \[4\]; expected one length"),
        ([(np.ones(0),)], "at least 1"),
        ([(np.float64(1),)], "expected one length"),
    ],
)
def test_sets_that_cannot_be_resampled_are_refused(sets, message):
    with pytest.raises(InputError, match=message):
        metrics.bootstrap_interval_of(lambda *_: 0.0, *sets)
    with pytest.raises(InputError, match="expected the same sets"):
        metrics.paired_bootstrap_difference_of(np.mean, [(np.ones(3),)], [(np.ones(4),)])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.5000001, 0.9, 1.0]), min_size=1, max_size=40), st.integers(1, 20))
def test_cuts_found_locally_are_those_chosen_among_all_ends(confidence, n_bins):
    ascending = np.sort(np.array(confidence))
    ends = tie_ends(ascending)
    expected = np.diff(ends[equal_mass_cuts(ends, n_bins)])
    np.testing.assert_array_equal(bin_equal_mass(ascending, np.ones(len(ascending), bool), n_bins).count, expected)
