"""The simulation of intervals computes the package's own numbers and intervals."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mixup_jax import metrics
from mixup_jax.metrics.resampling import interval_around

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import interval_classes
import interval_simulation as simulation


@pytest.mark.parametrize("decimals", [2, 9])
def test_numbers_of_a_set_are_the_packages(decimals):
    rng = np.random.default_rng(decimals)
    confidence = np.round(0.1 + 0.9 * rng.beta(4, 1, 400), decimals)
    correct = rng.random(400) < confidence
    losses = rng.random((2, 400))
    found = {key: values[0] for key, values in simulation.replicates(confidence, correct, losses, 1, 0).items()}
    few, many = (metrics.bin_confidences(confidence, correct, bins) for bins in (15, 100))
    expected = {
        "ece_15": metrics.ece(few),
        "oe_100": metrics.oe(many),
        "mce_15": metrics.mce(few),
        "debiased_ece_l1_15": metrics.debiased_ece(few, "l1"),
        "adaptive_ece_15": metrics.adaptive_ece(confidence, correct),
        "aurc": metrics.aurc(-confidence, correct),
        "e_aurc": metrics.e_aurc(-confidence, correct),
        "nll": losses[0].mean(),
        "confidence_minus_accuracy": metrics.confidence_minus_accuracy(few),
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key
    of_cells = simulation.replicates_of_cells(confidence, correct, losses, 1, 0)
    for key in of_cells:
        assert of_cells[key][0] == pytest.approx(found[key], abs=1e-12), key


def test_intervals_are_those_of_the_package():
    rng = np.random.default_rng(0)
    confidence = 0.5 + 0.5 * rng.beta(4, 1, 300)
    correct = rng.random(300) < confidence - 0.05
    own = metrics.bootstrap_intervals(confidence, correct, [15], ["ece", "adaptive_ece"], resamples=4000)
    for replicates in (simulation.replicates, simulation.replicates_of_cells):
        values = replicates(confidence, correct, np.zeros((2, 300)), 4000, 1)
        found = simulation.intervals(values, simulation.LIMITS)
        for key in own.keys() & values.keys():
            near = 0.1 * (own[key].high - own[key].low)  # of 4,000 resamples, not the same ones
            assert found[key] == pytest.approx(tuple(own[key]), abs=near)
            exact = interval_around(values[key][0], values[key][1:], 0.95, 0.0, 1.0)
            assert found[key] == pytest.approx(tuple(exact), abs=near / 10)


def test_numbers_of_all_classes_and_of_smooth_ece_are_the_packages():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 4, (300, 6))
    labels = (logits + rng.gumbel(0, 1, logits.shape)).argmax(axis=1)
    chosen = rng.integers(0, 300, (2, 300))
    chosen[0] = np.arange(300)
    counts = np.array([np.bincount(rows, minlength=300) for rows in chosen])
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    found = interval_classes.replicates_of_classes(logits, labels, counts)
    found |= interval_classes.replicates_of_order(confidence, correct, counts)
    for place, rows in enumerate(chosen):
        some, right = confidence[rows], correct[rows]
        assert found["classwise_ece_15"][place] == pytest.approx(metrics.classwise_ece(logits[rows], labels[rows]))
        assert found["tace_15"][place] == pytest.approx(metrics.tace(logits[rows], labels[rows]))
        assert found["smooth_ece"][place] == pytest.approx(metrics.smooth_ece(some, right), abs=1e-8)
        assert found["augrc"][place] == pytest.approx(metrics.augrc(-some, right))


@pytest.mark.parametrize("decimals", [1, 9])
def test_detection_is_the_packages(decimals):
    rng = np.random.default_rng(decimals)
    inside, outside = (np.round(rng.normal(mean, 1, n), decimals) for mean, n in ((0, 300), (1, 200)))
    names = ("aupr_in", "aupr_out", "fpr95_ood", "fpr95_id", "auroc")
    expected = [getattr(metrics, name)(inside, outside) for name in names]
    assert simulation.of_sets(inside, outside, 1, 0)[0] == pytest.approx(expected, abs=1e-12)
