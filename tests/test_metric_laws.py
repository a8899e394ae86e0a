"""What every number of labelled logits must obey, whatever it measures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics

seeds = st.integers(0, 2**32 - 1)


def every_number(logits, labels):
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    score = metrics.msp_score(logits)
    bins = {"logits": metrics.bin_logits(logits, labels), "mass": metrics.bin_equal_mass(confidence, correct)}
    numbers = {
        "accuracy": correct.mean(),
        "nll": metrics.nll(logits, labels),
        "brier": metrics.brier(logits, labels),
        "oe": metrics.oe(bins["logits"]),
        "smooth_ece": metrics.smooth_ece(confidence, correct),
        "classwise_ece": metrics.classwise_ece(logits, labels),
        "tace": metrics.tace(logits, labels),
        "debiased_l1": metrics.debiased_ece(bins["logits"], "l1"),
        "debiased_l2": metrics.debiased_ece(bins["logits"], "l2"),
        "aurc": metrics.aurc(score, correct),
        "e_aurc": metrics.e_aurc(score, correct),
        "floor": metrics.noise_floor(confidence, resamples=5).mean,
        "temperature": metrics.fit_temperature(logits, labels),
        "top_2": metrics.top_k_accuracy(logits, labels, 2),
    }
    numbers |= {f"ece_{norm}_{of}": metrics.ece(bins[of], norm) for of in bins for norm in ("l1", "l2", "max")}
    numbers |= metrics.ece_direction(bins["logits"])._asdict()
    numbers |= metrics.brier_decomposition_of_classes(logits, labels)._asdict()
    if 0 < correct.sum() < len(correct):  # errors as what is to be found
        for name in ("auroc", "aupr_in", "aupr_out", "fpr95_ood", "fpr95_id"):
            numbers[name] = getattr(metrics, name)(score[correct], score[~correct])
    return numbers


def drawn(seed, classes, kind):
    """Returns logits that are multiples of 1/8, so that a whole number can be added to them exactly."""
    rng = np.random.default_rng(seed)
    size = {"plain": 16, "tied": 2, "sharp": 400}[kind]
    logits = rng.integers(-size, size + 1, (40, classes)) / 8
    return logits.astype(np.float32), rng.integers(0, classes, 40)


kinds = st.sampled_from(["plain", "tied", "sharp"])
few_or_many = st.sampled_from([2, 5, 70])


@settings(deadline=None, max_examples=25)
@given(seeds, few_or_many, kinds)
def test_the_order_of_examples_changes_no_number(seed, classes, kind):
    logits, labels = drawn(seed, classes, kind)
    order = np.random.default_rng(seed).permutation(len(labels))
    assert every_number(logits[order], labels[order]) == pytest.approx(every_number(logits, labels), abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(seeds, few_or_many, kinds)
def test_a_constant_added_to_each_row_changes_no_number(seed, classes, kind):
    logits, labels = drawn(seed, classes, kind)
    constants = np.random.default_rng(seed).integers(-1000, 1000, (len(labels), 1))
    moved = (logits + constants).astype(np.float32)
    assert every_number(moved, labels) == pytest.approx(every_number(logits, labels), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(seeds, few_or_many)
def test_extreme_logits_give_finite_numbers(seed, classes):
    rng = np.random.default_rng(seed)
    logits = rng.choice([-1e4, -300.0, 0.0, 1.0, 300.0, 1e4, -np.inf], (40, classes)).astype(np.float32)
    logits[:, 0] = rng.choice([-1e4, 0.0, 1e4], 40)  # some class is always possible
    labels = logits.argmax(axis=1)
    right = rng.random(40) < 0.5
    labels[right] = 0
    numbers = every_number(logits, labels)
    assert all(np.isfinite(value) for value in numbers.values()), numbers
    bounded = {name: value for name, value in numbers.items() if name not in ("nll", "temperature")}
    assert all(-1 <= value <= 2 for value in bounded.values()), bounded
