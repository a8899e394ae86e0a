import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.metrics import (
    auroc,
    bin_confidences,
    bootstrap_intervals,
    classwise,
    ece,
    intervals,
    noise_floor,
    oe,
    paired_bootstrap_auroc_difference,
    paired_bootstrap_differences,
    replicates,
    resampling,
)


def draw(rng, n, gap=0.0):
    """A test set of a network that is over-confident by `gap`."""
    confidence = 0.3 + 0.7 * rng.beta(5, 2, n)
    return confidence, rng.random(n) < np.clip(confidence - gap, 0, 1)


def measured(confidence, correct, n_bins=15):
    bins = bin_confidences(confidence, correct, n_bins)
    return {"accuracy": np.mean(correct), f"ece_{n_bins}": ece(bins), f"oe_{n_bins}": oe(bins)}


def test_replicates_are_the_metrics_of_the_resampled_sets():
    confidence, correct = draw(np.random.default_rng(0), 40, gap=0.2)
    confidence[:3], correct[:3] = [0.0, 1.0, 2 / 15], [True, False, True]
    run = replicates.sorted_run(confidence, correct)
    counts = next(resampling.resample_counts(40, 5, seed=1))
    wanted = intervals.named_replicates(["accuracy", "ece", "oe"], [15, 100])
    found = intervals.replicates_of(run, counts, wanted)
    for row, count in enumerate(counts):
        assert count.sum() == 40
        chosen = np.repeat(np.arange(40), count)
        for n_bins in (15, 100):
            for name, value in measured(confidence[chosen], correct[chosen], n_bins).items():
                assert found[name][row] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (7, 9), (0, 300), (300, 300), (1800, 2000)])
def test_interval_of_accuracy_is_wilsons(hits, n, level):
    golden = scipy.stats.binomtest(hits, n).proportion_ci(level, "wilson")
    assert metrics.wilson_interval(hits, n, level) == pytest.approx(tuple(golden), abs=1e-12)
    found = bootstrap_intervals(np.full(n, 0.9), np.arange(n) < hits, resamples=2, level=level)["accuracy"]
    assert found == metrics.wilson_interval(hits, n, level)


def test_two_runs_that_are_right_on_the_same_examples_may_still_differ_by_a_little():
    correct, n, z = np.arange(300) < 250, 300, 1.959963984540054
    found = paired_bootstrap_differences(np.full(n, 0.9), correct, np.full(n, 0.8), correct, resamples=2)["accuracy"]
    # Tango's score statistic of the difference d, with none discordant, is n d / sqrt(n d (1 - d)).
    golden = scipy.optimize.brentq(lambda d: n * d / np.sqrt(n * d * (1 - d)) - z, 1e-6, 0.5)
    assert found == pytest.approx((0.0, -golden, golden), abs=1e-9)
    apart = np.zeros(50), np.ones(20)
    of_sets = paired_bootstrap_auroc_difference(*apart, *apart, resamples=2)
    assert of_sets == pytest.approx((0.0, -(z**2) / (20 + z**2), z**2 / (20 + z**2)), abs=1e-9)


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_intervals_cover_what_test_sets_of_this_size_give_on_average(gap):
    rng = np.random.default_rng(2)
    n = 500
    many = [measured(*sample, 15) | measured(*sample, 100) for sample in (draw(rng, n, gap) for _ in range(300))]
    expected = {name: np.mean([one[name] for one in many]) for name in many[0]}
    covered = dict.fromkeys(expected, 0)
    for seed in range(60):
        found = bootstrap_intervals(*draw(rng, n, gap), resamples=200, seed=seed)
        for name, value in expected.items():
            covered[name] += found[name].low <= value <= found[name].high
    # 95 % of 60 is 57; fewer than 50 has probability 1e-3 for one name.  ECE near its floor is covered more often.
    assert min(covered.values()) >= 50, covered


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([-0.3, 0.0, 0.3]))
def test_an_interval_lies_in_range_and_holds_the_measured_value(seed, n, gap):
    confidence, correct = draw(np.random.default_rng(seed), n, gap)
    found = bootstrap_intervals(confidence, correct, [15], resamples=30)
    for name, value in measured(confidence, correct).items():
        low, high = found[name]
        assert 0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1


def test_intervals_are_deterministic_and_ignore_the_order_of_examples():
    rng = np.random.default_rng(3)
    confidence, correct = draw(rng, 300)
    order = rng.permutation(300)
    first = bootstrap_intervals(confidence, correct, resamples=50)
    assert bootstrap_intervals(confidence, correct, resamples=50) == first
    assert bootstrap_intervals(confidence[order], correct[order], resamples=50)["ece_15"] == first["ece_15"]
    assert bootstrap_intervals(confidence, correct, resamples=50, seed=1) != first
    assert noise_floor(confidence[order]) == noise_floor(confidence)


def test_the_size_of_the_chunks_does_not_matter(monkeypatch):
    confidence, correct = draw(np.random.default_rng(4), 100)
    whole = bootstrap_intervals(confidence, correct, resamples=50), noise_floor(confidence, resamples=50)
    monkeypatch.setattr(resampling, "CHUNK", 700)
    assert (bootstrap_intervals(confidence, correct, resamples=50), noise_floor(confidence, resamples=50)) == whole


@pytest.mark.parametrize("n", [1, 7, 3000, 70_000])
def test_resamples_and_redraws_are_those_of_numpys_generator(n):
    resamples, draws = 11, np.random.default_rng(5).integers(0, n, (11, n))
    counts = np.concatenate(list(resampling.resample_counts(n, resamples, 5, rows=4)))
    np.testing.assert_array_equal(counts, [np.bincount(drawn, minlength=n) for drawn in draws])
    confidence = np.sort(np.random.default_rng(1).random(n))
    right = np.random.default_rng(5).random((resamples, n)) < confidence
    gaps = [ece(bin_confidences(confidence, one)) for one in right]
    assert noise_floor(confidence, resamples=resamples, seed=5).mean == pytest.approx(np.mean(gaps), rel=1e-12)


def test_a_higher_level_gives_a_wider_interval():
    confidence, correct = draw(np.random.default_rng(5), 300)
    narrow, wide = (bootstrap_intervals(confidence, correct, level=level)["ece_15"] for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_difference_is_that_of_the_metrics_and_pairing_narrows_it():
    rng = np.random.default_rng(7)
    confidence, correct = draw(rng, 1000)
    other_confidence, other_correct = confidence**2, correct.copy()
    other_correct[:20] = False  # the runs agree on almost every example
    found = paired_bootstrap_differences(confidence, correct, other_confidence, other_correct)
    a, b = measured(confidence, correct), measured(other_confidence, other_correct)
    assert {name: d.difference for name, d in found.items()} == pytest.approx({name: a[name] - b[name] for name in a})
    assert all(d.low <= d.difference <= d.high for d in found.values())
    alone = bootstrap_intervals(confidence, correct)["accuracy"]
    assert found["accuracy"].high - found["accuracy"].low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize("level", [0.01, 0.95])
def test_an_interval_never_excludes_its_own_difference(level):
    rng = np.random.default_rng(12)
    for seed in range(20):
        a, b = draw(rng, 30), draw(rng, 30, 0.2)
        for difference, low, high in paired_bootstrap_differences(
            *a, *b, resamples=20, level=level, seed=seed
        ).values():
            assert low <= difference <= high


def test_difference_changes_sign_with_the_order_of_the_runs():
    rng = np.random.default_rng(8)
    a, b = draw(rng, 200), draw(rng, 200, 0.1)
    there, back = paired_bootstrap_differences(*a, *b), paired_bootstrap_differences(*b, *a)
    for name, (difference, low, high) in there.items():
        assert back[name] == pytest.approx((-difference, -high, -low), abs=1e-12)


def test_differences_do_not_depend_on_how_many_resamples_are_worked_on_at_a_time(monkeypatch):
    rng = np.random.default_rng(4)
    confidences, outcomes, scores = rng.random((2, 50)), rng.random((2, 50)) < 0.7, rng.random((4, 50))
    found = []
    for chunk in (50, 333, 1 << 18):
        monkeypatch.setattr(intervals, "PAIR_CHUNK", chunk)
        found.append(paired_bootstrap_differences(confidences[0], outcomes[0], confidences[1], outcomes[1]))
        found[-1] |= {"auroc": paired_bootstrap_auroc_difference(*scores)}
    assert found[0] == found[1] == found[2]


def test_auroc_difference_against_resampling_by_hand():
    rng = np.random.default_rng(9)
    in_a, out_a = rng.integers(0, 6, 150).astype(float), rng.integers(1, 8, 90).astype(float)
    in_b, out_b = in_a + rng.integers(0, 3, 150), out_a.copy()
    counts_in, counts_out = (next(resampling.resample_counts(n, 4, seed=n)) for n in (150, 90))
    for row, found in enumerate(intervals._auroc_of_resamples(in_a, out_a)(counts_in, counts_out)):
        assert found == pytest.approx(auroc(np.repeat(in_a, counts_in[row]), np.repeat(out_a, counts_out[row])))
    difference, low, high = paired_bootstrap_auroc_difference(in_a, out_a, in_b, out_b, resamples=200)
    assert difference == pytest.approx(auroc(in_a, out_a) - auroc(in_b, out_b))
    assert 0 < low < difference < high
    assert paired_bootstrap_auroc_difference(in_a, out_a, in_a, out_a, resamples=20) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("n_bins", [15, 100])
def test_noise_floor_is_near_the_closed_form(n_bins):
    confidence, _ = draw(np.random.default_rng(10), 20_000)
    bins = bin_confidences(confidence, np.zeros(20_000, bool), n_bins)
    variance_sum = np.bincount(
        np.minimum(np.ceil(confidence * n_bins).astype(int) - 1, n_bins - 1), confidence * (1 - confidence), n_bins
    )
    closed = np.sqrt(2 / np.pi) * np.sqrt(variance_sum).sum() / bins.n
    floor = noise_floor(confidence, n_bins)
    assert floor.mean == pytest.approx(closed, rel=0.05)
    assert floor.mean < floor.p95 < 2 * floor.mean


def test_a_calibrated_network_stays_below_the_floors_95th_percentile_19_times_of_20():
    rng = np.random.default_rng(11)
    below = 0
    for _ in range(100):
        confidence, correct = draw(rng, 400)
        below += ece(bin_confidences(confidence, correct)) <= noise_floor(confidence).p95
    assert 87 <= below <= 100
    confidence, correct = draw(rng, 400, gap=0.15)
    assert ece(bin_confidences(confidence, correct)) > noise_floor(confidence).p95


def test_noise_floor_of_certain_predictions_is_zero():
    assert noise_floor([1.0, 1.0, 0.0]) == (0.0, 0.0)


def test_bad_arguments_are_refused():
    one = [0.5], [True]
    for call, message in [
        (lambda: bootstrap_intervals([], []), "no examples"),
        (lambda: bootstrap_intervals(*one, resamples=0), "resamples is 0"),
        (lambda: bootstrap_intervals(*one, level=95), "level is 95"),
        (lambda: noise_floor([0.5], resamples=0), "resamples is 0"),
        (lambda: noise_floor([[0.5]]), r"shape \[1, 1\]"),
        (lambda: noise_floor([2.0]), "confidence 2.0"),
        (lambda: paired_bootstrap_differences(*one, [0.5, 0.5], [True, True]), "1 and 2 examples"),
        (lambda: paired_bootstrap_auroc_difference([1.0], [1.0], [1.0], [1.0, 2.0]), "same data sets"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


EVERY = (*intervals.statistics(),)


def every_number(confidence, correct, n_bins):
    bins, parts = bin_confidences(confidence, correct, n_bins), metrics.brier_decomposition(confidence, correct, n_bins)
    return {
        "accuracy": np.mean(correct),
        "confidence_minus_accuracy": metrics.confidence_minus_accuracy(bins),
        "smooth_ece": metrics.smooth_ece(confidence, correct),
        f"ece_{n_bins}": ece(bins),
        f"oe_{n_bins}": oe(bins),
        f"mce_{n_bins}": metrics.mce(bins),
        f"ece_l2_{n_bins}": ece(bins, "l2"),
        f"debiased_ece_l1_{n_bins}": metrics.debiased_ece(bins, "l1"),
        f"debiased_ece_l2_{n_bins}": metrics.debiased_ece(bins, "l2"),
        f"ece_over_{n_bins}": metrics.ece_direction(bins).over,
        f"ece_under_{n_bins}": metrics.ece_direction(bins).under,
        **{f"brier_{part}_{n_bins}": getattr(parts, part) for part in ("reliability", "resolution", "uncertainty")},
        f"adaptive_ece_{n_bins}": metrics.adaptive_ece(confidence, correct, n_bins),
    }


def test_every_replicate_is_the_metric_of_the_resampled_set():
    rng = np.random.default_rng(20)
    confidence, correct = draw(rng, 60, gap=0.2)
    confidence[:20] = np.repeat([0.0, 1.0, 0.6, 0.8], 5)
    run = replicates.sorted_run(confidence, correct, {"loss": confidence**2})
    counts = next(resampling.resample_counts(60, 5, seed=1))
    found = intervals.replicates_of(run, counts, intervals.named_replicates(EVERY, [7]))
    for row, count in enumerate(counts):
        chosen = np.repeat(np.arange(60), count)
        expected = every_number(confidence[chosen], correct[chosen], 7)
        expected["loss"] = np.mean(confidence[chosen] ** 2)
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected, abs=1e-8)


def test_every_interval_holds_its_value_and_every_difference_of_a_run_with_itself_is_zero():
    confidence, correct = draw(np.random.default_rng(21), 300)
    losses = {"squared": (confidence - correct) ** 2}
    found = bootstrap_intervals(confidence, correct, [15], EVERY, losses=losses, resamples=40)
    for name, value in every_number(confidence, correct, 15).items():
        assert found[name].low - 1e-9 <= value <= found[name].high + 1e-9
    assert found["squared"].low < losses["squared"].mean() < found["squared"].high
    same = paired_bootstrap_differences(
        confidence, correct, confidence, correct, names=EVERY, losses_a=losses, losses_b=losses, resamples=20
    )
    assert set(same) == set(found)
    assert same.pop("accuracy") == resampling.no_difference(300, 0.95)
    assert all(difference == (0.0, 0.0, 0.0) for difference in same.values())


def test_the_interval_of_a_loss_is_that_of_a_mean():
    rng = np.random.default_rng(22)
    confidence, correct = draw(rng, 3000)
    loss = rng.exponential(2.0, 3000)
    low, high = bootstrap_intervals(confidence, correct, losses={"nll": loss})["nll"]
    half_width = 1.96 * loss.std() / np.sqrt(3000)
    assert (low, high) == pytest.approx((loss.mean() - half_width, loss.mean() + half_width), abs=0.1 * half_width)


def test_asking_for_more_numbers_changes_none_of_the_others():
    confidence, correct = draw(np.random.default_rng(23), 200)
    usual = bootstrap_intervals(confidence, correct, resamples=30)
    more = bootstrap_intervals(confidence, correct, names=EVERY, resamples=30)
    assert {name: more[name] for name in usual} == usual


def test_classwise_replicates_and_interval():
    rng = np.random.default_rng(24)
    logits = rng.normal(0, 2, (80, 3))
    labels = np.argmax(0.5 * logits + rng.gumbel(0, 1, logits.shape), axis=1)
    counts = next(resampling.resample_counts(80, 4, seed=0))
    found = classwise._ClassSums(logits, labels, 15).classwise_ece(counts)
    for value, count in zip(found, counts, strict=True):
        chosen = np.repeat(np.arange(80), count)
        assert value == pytest.approx(metrics.classwise_ece(logits[chosen], labels[chosen]), abs=1e-12)
    low, high = metrics.bootstrap_classwise_ece(logits, labels, resamples=50)
    assert low < metrics.classwise_ece(logits, labels) < high


def test_bad_names_and_losses_are_refused():
    one = [0.5, 0.6], [True, False]
    for call, message in [
        (lambda: bootstrap_intervals(*one, names=["smooth_ec"]), "did you mean 'smooth_ece'"),
        (lambda: bootstrap_intervals(*one, losses={"nll": [1.0]}), r"loss nll has shape \[1\]; expected \[2\]"),
        (lambda: bootstrap_intervals(*one, losses={"nll": [1.0, np.inf]}), "loss nll is inf for example 1"),
        (lambda: bootstrap_intervals(*one, losses={"accuracy": [1.0, 1.0]}), "losses name 'accuracy'"),
        (lambda: paired_bootstrap_differences(*one, *one, losses_a={"nll": [1.0, 2.0]}), "expected the same names"),
    ]:
        with pytest.raises(InputError, match=message):
            call()
