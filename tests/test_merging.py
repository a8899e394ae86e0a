"""Sums over parts of a data set: in any grouping they give what the whole gives."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax import metrics
from mixup_jax.errors import InputError


def by_class(logits, labels):
    return metrics.bin_classes(logits, labels, 7)


def merged_by_class(one, other):
    return tuple(mine.merge(theirs) for mine, theirs in zip(one, other, strict=True))


def of_confidences(function):
    return lambda logits, labels: function(*metrics.confidence_and_correct(logits, labels))


NUMBERS = {
    "class-wise ECE": (by_class, merged_by_class, metrics.classwise_ece_of_bins),
    "smooth ECE": (of_confidences(metrics.residuals), metrics.Residuals.merge, lambda sums: sums.smooth_ece),
    "Brier, top label": (of_confidences(metrics.brier_sums), metrics.BrierSums.merge, lambda sums: sums.decomposition),
    "Brier": (metrics.brier_sums_of_classes, metrics.BrierSums.merge, lambda sums: sums.decomposition),
    "ECE of logits": (metrics.bin_logits, metrics.Bins.merge, metrics.ece),
    "OE of logits": (metrics.bin_logits, metrics.Bins.merge, metrics.oe),
    "smooth ECE of a tally": (metrics.tally, metrics.Tally.merge, lambda sums: sums.smooth_ece),
}
ONE_SHOT = {
    "class-wise ECE": lambda logits, labels: metrics.classwise_ece(logits, labels, 7),
    "smooth ECE": of_confidences(metrics.smooth_ece),
    "Brier, top label": of_confidences(metrics.brier_decomposition),
    "Brier": metrics.brier_decomposition_of_classes,
    "ECE of logits": lambda logits, labels: metrics.ece(of_confidences(metrics.bin_confidences)(logits, labels)),
    "OE of logits": lambda logits, labels: metrics.oe(of_confidences(metrics.bin_confidences)(logits, labels)),
    "smooth ECE of a tally": of_confidences(metrics.smooth_ece),
}


@pytest.mark.parametrize("name", NUMBERS)
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 49), min_size=1, max_size=4))
def test_parts_in_any_grouping_give_what_the_whole_gives(name, seed, cuts):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (50, 4)), rng.integers(0, 4, 50)
    sums_of, merge, number = NUMBERS[name]
    parts = [sums_of(logits[rows], labels[rows]) for rows in np.split(np.arange(50), sorted(set(cuts)))]
    for total in (reduce(merge, parts), reduce(lambda right, left: merge(left, right), reversed(parts))):
        assert number(total) == pytest.approx(ONE_SHOT[name](logits, labels), abs=1e-9)


@pytest.mark.parametrize("sums_of", [metrics.residuals, metrics.brier_sums])
def test_the_sums_of_nothing_are_neutral_and_have_no_numbers(sums_of):
    nothing, something = sums_of([], []), sums_of([0.7, 0.9], [True, False])
    for merged in (nothing.merge(something), something.merge(nothing)):
        for name, value in vars(something).items():
            np.testing.assert_array_equal(getattr(merged, name), value)
    with pytest.raises(InputError, match="no examples"):
        getattr(nothing, "smooth_ece" if sums_of is metrics.residuals else "decomposition")


def test_sums_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"shapes \[1, 5, 15\] and \[1, 5, 10\]"):
        metrics.brier_sums([0.5], [True]).merge(metrics.brier_sums([0.5], [True], 10))
    with pytest.raises(InputError, match="binned holds no classes"):
        metrics.classwise_ece_of_bins([])
