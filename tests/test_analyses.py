"""Analyses on request: conformal sets, groups, parts of scores, a test of calibration, ensembles, noise floors."""

import numpy as np
import pytest
import scipy.stats
from scipy.special import softmax

import mixup_jax
from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.evaluation.ensemble import mean_of_records
from mixup_jax.evaluation.export import format_table, render
from mixup_jax.evaluation.extras import EXTRAS
from mixup_jax.metrics.conformal import RULES
from mixup_jax.report.quantities import sections
from mixup_jax.report.runs import dig
from mixup_jax.runs.records import Predictions, load_record, save_predictions


def calibrated(seed, n, classes=6, temperature=1.0):
    """Logits times a temperature, and labels drawn from the softmax of the logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits * temperature, labels


def naive_scores(logits, rule, uniform):
    """The score of every class, class by class."""
    p = softmax(logits, axis=1)
    found = np.empty_like(p)
    for row in range(len(p)):
        order = np.argsort(-logits[row], kind="stable")
        for rank, label in enumerate(order, start=1):
            before = p[row, order[: rank - 1]].sum()
            if rule == "thr":
                found[row, label] = 1 - p[row, label]
            else:
                found[row, label] = before + (1 - uniform[row]) * p[row, label]
                found[row, label] += 0.1 * max(0, rank - 1) if rule == "raps" else 0
    return found


@pytest.mark.parametrize("rule", RULES)
def test_sets_are_those_of_the_definition(rule):
    (held_out, y), (test, truth) = calibrated(0, 60), calibrated(1, 80)
    threshold = metrics.conformal_threshold(held_out, y, rule, 0.8, temperature=2.0)
    own = naive_scores(held_out / 2, rule, np.random.default_rng(0).random(60))[np.arange(60), y]
    assert threshold == pytest.approx(np.sort(own)[int(np.ceil(61 * 0.8)) - 1], abs=1e-12)
    inside = naive_scores(test / 2, rule, np.random.default_rng(1).random(80)) <= threshold + 1e-12
    sets = metrics.prediction_sets(test, truth, threshold + 1e-12, rule, seed=1, temperature=2.0)
    np.testing.assert_array_equal(sets.size, inside.sum(axis=1))
    np.testing.assert_array_equal(sets.covered, inside[np.arange(80), truth])


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_coverage_over_many_calibrations_is_the_level_promised(rule):
    shares = []
    for seed in range(150):
        (held_out, y), (test, truth) = calibrated(seed, 39), calibrated(1000 + seed, 200)
        threshold = metrics.conformal_threshold(held_out, y, rule, 0.9, seed=2 * seed)
        shares.append(metrics.prediction_sets(test, truth, threshold, rule, seed=2 * seed + 1).covered.mean())
    # Exactly ceil(40 x 0.9) / 40 = 0.9 for continuous scores.
    assert np.mean(shares) == pytest.approx(0.9, abs=4 * np.std(shares) / np.sqrt(150))


def test_few_examples_give_all_classes_and_coverage_has_its_exact_interval():
    logits, labels = calibrated(0, 8)
    assert metrics.conformal_threshold(logits, labels, level=0.9) == np.inf
    assert metrics.conformal_threshold(*calibrated(0, 9), level=0.9) < np.inf
    assert (metrics.prediction_sets(logits, labels, np.inf).size == 6).all()
    for hits, n in ((0, 7), (3, 7), (7, 7), (455, 500)):
        exact = scipy.stats.binomtest(hits, n).proportion_ci(0.95, "exact")
        assert metrics.binomial_interval(hits, n) == pytest.approx((exact.low, exact.high), abs=1e-9)
    sets = metrics.Sets(np.array([1, 1, 2, 0]), np.array([True, False, True, False]))
    found = metrics.coverage_of(sets, [0, 0, 2, 2])
    assert found["by_size"] == {"0-1": {"n": 3, "coverage": 1 / 3}, "2-3": {"n": 1, "coverage": 1.0}}
    assert (found["coverage"], found["mean_size"], found["empty"]) == (0.5, 1.0, 0.25)
    assert (found["worst_class_coverage"], found["class_gap"]) == (0.5, 0.0)


def test_augrc_is_the_area_and_its_closed_form():
    rng = np.random.default_rng(0)
    score, correct = rng.random(50), rng.random(50) < 0.7
    errors = np.concatenate([[0], np.cumsum(~correct[np.argsort(score)])])
    assert metrics.augrc(score, correct) == pytest.approx(np.trapezoid(errors / 50, dx=1 / 50), abs=1e-12)
    tied = rng.integers(0, 4, 50)
    accuracy = correct.mean()
    area = metrics.auroc(tied[correct], tied[~correct])
    closed = accuracy * (1 - accuracy) * (1 - area) + (1 - accuracy) ** 2 / 2
    assert metrics.augrc(tied, correct) == pytest.approx(closed, abs=1e-12)


def test_groups_are_measured_apart():
    logits, labels = calibrated(0, 300)
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    names = np.array(["a", "b", "c"])[np.arange(300) % 3]
    found = metrics.by_group(confidence, correct, names)
    for name, part in found["groups"].items():
        rows = names == name
        bins = metrics.bin_confidences(confidence[rows], correct[rows])
        assert part == {
            "n": 100,
            "accuracy": correct[rows].mean(),
            "mean_confidence": pytest.approx(confidence[rows].mean()),
            "ece_15": pytest.approx(metrics.ece(bins), abs=1e-12),
        }
    accuracies = {name: part["accuracy"] for name, part in found["groups"].items()}
    assert found["worst_accuracy"] == min(accuracies.values()) == accuracies[found["worst_accuracy_of"]]
    assert found["accuracy_gap"] == max(accuracies.values()) - min(accuracies.values())
    with pytest.raises(InputError, match=r"groups have shape \[2\] and dtype float64"):
        metrics.by_group(confidence, correct, np.zeros(2))


def test_the_test_of_calibration_holds_its_level_and_finds_over_confidence():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, (300, 80))
    p = [
        metrics.calibration_test(c, rng.random(80) < c, resamples=99, seed=seed)["p_value"]
        for seed, c in enumerate(confidence)
    ]
    for level in (0.05, 0.2, 0.5):  # exact but for ties of the redraws: binomial in the 300 trials
        assert scipy.stats.binomtest(int((np.array(p) <= level).sum()), 300, level).pvalue > 1e-3
    over = rng.random(80) < confidence[0] - 0.25
    assert metrics.calibration_test(confidence[0], over)["p_value"] < 0.02


def test_the_parts_of_scores_add_up_and_a_temperature_moves_only_calibration():
    logits, labels = calibrated(0, 2000)
    plain, hot = (metrics.refinement_parts(logits * scale, labels) for scale in (1.0, 3.0))
    whole = {"nll": metrics.nll(logits * 3, labels), "brier": metrics.brier(logits * 3, labels)}
    for key in ("nll", "brier"):
        assert hot[f"{key}_refinement"] + hot[f"{key}_calibration"] == pytest.approx(whole[key], abs=1e-12)
        assert hot[f"{key}_refinement"] == pytest.approx(plain[f"{key}_refinement"], abs=1e-8)
    assert 0 <= plain["nll_calibration"] < 0.002 < hot["nll_calibration"]
    sklearn = pytest.importorskip("sklearn.isotonic")
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    fitted = sklearn.IsotonicRegression().fit_transform(confidence, correct)
    assert plain["brier_top_label_refinement"] == pytest.approx(np.mean((fitted - correct) ** 2), abs=1e-9)


def test_members_that_agree_differ_by_nothing_and_certain_ones_by_the_logarithm():
    logits, _ = calibrated(0, 40)
    same = metrics.ensemble_disagreement([logits, logits + 5, logits])
    assert same == {"mutual_information": pytest.approx(0, abs=1e-12), "disagreement": 0.0}
    certain = np.where(np.eye(3, dtype=bool)[[0, 1]], 0.0, -np.inf)
    apart = metrics.ensemble_disagreement([certain, certain[::-1]])
    assert apart == {"mutual_information": pytest.approx(np.log(2)), "disagreement": 1.0}
    assert metrics.ensemble_disagreement([certain, certain, certain[::-1]])["disagreement"] == pytest.approx(2 / 3)


def test_noise_floors_of_adaptive_and_smooth_ece_are_means_over_calibrated_redraws():
    confidence = np.random.default_rng(0).uniform(0.4, 1, 300).round(2)  # with ties
    rng = np.random.default_rng(5)
    for floor, metric in (
        (metrics.adaptive_noise_floor, metrics.adaptive_ece),
        (metrics.smooth_noise_floor, metrics.smooth_ece),
    ):
        redrawn = [metric(confidence, rng.random(300) < confidence) for _ in range(200)]
        error = np.std(redrawn) / np.sqrt(200)
        found = floor(confidence, resamples=400)
        assert found.mean == pytest.approx(np.mean(redrawn), abs=5 * error)
        assert found.p95 > found.mean


def test_an_evaluation_has_the_analyses_it_is_asked_for(tmp_path):
    (logits, labels), held_out = calibrated(0, 400, temperature=2.0), calibrated(1, 300, temperature=2.0)
    test = Predictions(logits, labels, {}, groups=np.arange(400) % 4)
    save_predictions(tmp_path / "test.npz", test)
    read = load_record(tmp_path / "test.npz", groups=True)
    np.testing.assert_array_equal(read.groups, test.groups)
    shifted = Predictions(*calibrated(2, 200, temperature=4.0), {"shift_of": "x"})
    document = mixup_jax.evaluate(read, validation=held_out, ood={"blurred": shifted}, extra=tuple(EXTRAS))
    extra = document["results"]["test"]["extra"]
    assert set(extra) == set(EXTRAS)
    assert set(document["results"]["validation"]["extra"]) == set(EXTRAS) - {"groups", "conformal", "recalibration"}
    assert "warning" not in extra["conformal"]
    assert "not exchangeable" in document["results"]["blurred"]["extra"]["conformal"]["warning"]
    conformal = extra["conformal"]["with_temperature"]["thr"]
    low, high = conformal["intervals"]["coverage"]
    assert low < conformal["coverage"] < high
    crossed = extra["recalibration"]["cross_fitted"]
    assert crossed["none"]["minus_temperature"] > 0.05  # these logits are twice too large
    low, high = crossed["none"]["intervals"]["minus_temperature"]
    assert low < crossed["none"]["minus_temperature"] < high
    after = document["results"]["test"]["after_temperature"]["nll"]
    assert extra["recalibration"]["here"]["temperature"]["nll"] == pytest.approx(after, abs=1e-12)
    assert crossed[extra["recalibration"]["best"]]["nll"] == min(one["nll"] for one in crossed.values())
    of_confidence = extra["recalibration"]["here_confidence"]
    assert set(of_confidence) - set(crossed) == {"isotonic", "beta", "spline", "histogram"}
    fitted = metrics.fit_beta(*metrics.confidence_and_correct(*held_out))
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    golden = np.square(fitted.apply(confidence) - correct).mean()
    assert of_confidence["beta"]["brier_top_label"] == pytest.approx(golden, abs=1e-12)
    on_page = [quantity for section in sections([]) for quantity in section.quantities if quantity.path[0] == "extra"]
    assert len(on_page) > 40
    assert all(
        isinstance(dig(document["results"]["test"], *quantity.path), float)
        for quantity in on_page
        if quantity.path[-2:] != ("temperature", "minus_temperature")
    )
    shown = format_table(document)
    assert "conformal/with_temperature/thr/coverage" in shown
    assert "blurred: these examples are not exchangeable" in shown
    assert "extra/groups/groups/3/accuracy" in render(document, tmp_path / "x.csv")
    assert "extra" not in mixup_jax.evaluate(read)["results"]["test"]
    for wrong, match in (
        ("conformal", "'conformal' has no validation record"),
        ("fairness", "unknown extra analysis 'fairness'"),
    ):
        with pytest.raises(InputError, match=match):
            mixup_jax.evaluate(read, extra=[wrong])
    with pytest.raises(InputError, match="needs groups; expected an entry"):
        mixup_jax.evaluate(logits, labels, extra=["groups"])
    mean = mean_of_records([read, Predictions(logits / 3, labels)])
    expected = metrics.ensemble_disagreement([logits, logits / 3])
    assert mixup_jax.evaluate(mean)["results"]["test"]["ensemble"] == pytest.approx(expected)


def test_examples_whose_class_is_impossible_have_no_refinement_of_nll():
    found = mixup_jax.evaluate([[0, -np.inf, 1]] * 6, [1] * 6, extra=["refinement"])["results"]["test"]["extra"]
    assert "nll_refinement" not in found["refinement"]
    assert found["refinement"]["brier_calibration"] == pytest.approx(0.0)


def test_cross_fitting_needs_an_example_for_each_part():
    logits, labels = calibrated(0, 50)
    few = (logits[:3] + 0.5, labels[:3])
    with pytest.raises(InputError, match="'recalibration' has 3 labelled validation examples"):
        mixup_jax.evaluate(logits, labels, validation=few, extra=["recalibration"])


def test_options_of_arrays_are_refused_beside_a_record_and_ragged_lists_are_named():
    logits, labels = calibrated(0, 50)
    with pytest.raises(InputError, match="ignore_label given with a record"):
        mixup_jax.evaluate(Predictions(logits, labels), ignore_label=0)
    with pytest.raises(InputError, match="logits or labels are no array"):
        mixup_jax.evaluate([[1.0, 2.0], [3.0]], [0, 1])
