"""Calibration errors computed from confidence bins (`binning.Bins`), and bins of equal mass.

Equations: Guo et al. (2017, arXiv:1706.04599) and Thulasidasan et al. (2019, arXiv:1905.11001, section 3).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.binning import Bins, bin_edges, check_confidences
from mixup_jax.metrics.order import groups_around
from mixup_jax.metrics.softmax import Floats, Ints

NORMS = ("l1", "l2", "max")


def _examples(bins: Bins) -> int:
    if bins.n == 0:
        raise InputError("bins hold no examples; expected at least one")
    return bins.n


def calibration_error(count: Ints, confidence_sum: Floats, correct_sum: Floats, norm: str = "l1") -> Floats:
    """Returns `ece` for each set of bins along the last axis: arrays `[..., M]` in, float64 `[...]` out."""
    gap_sum = np.abs(correct_sum - confidence_sum)
    if norm == "l1":
        error = gap_sum.sum(axis=-1) / count.sum(axis=-1)
    elif norm == "l2":
        error = np.sqrt((np.square(gap_sum) / np.maximum(count, 1)).sum(axis=-1) / count.sum(axis=-1))
    elif norm == "max":
        error = (gap_sum / np.maximum(count, 1)).max(axis=-1)
    else:
        raise unknown_name("norm", norm, NORMS)
    return np.asarray(error, np.float64)


def ece(bins: Bins, norm: str = "l1") -> float:
    """Returns the expected calibration error, `sum_m n_m/n |acc_m - conf_m|`, in [0, 1]; empty bins add 0.

    Source: Guo et al. (2017), equation 3.

    With norm "l2" it is `sqrt(sum_m n_m/n (acc_m - conf_m)^2)` (Kumar et al., 2019), which weighs large gaps more and
    is never below "l1"; with "max" it is the largest gap, `mce`.  Bins may be equally wide or of equal mass.
    """
    _examples(bins)
    return float(calibration_error(bins.count, bins.confidence_sum, bins.correct_sum, norm))


class Direction(NamedTuple):
    """The two parts of ECE: `over + under` is ECE, `over - under` is mean confidence minus accuracy."""

    over: float
    under: float


def ece_direction(bins: Bins) -> Direction:
    """Returns how much of ECE is over-confidence and how much under-confidence, each in [0, 1].

    `over = sum_m n_m/n max(conf_m - acc_m, 0)` and `under = sum_m n_m/n max(acc_m - conf_m, 0)`.  Unlike
    `oe`, `over` is not weighted by confidence.  Raises InputError without examples.
    """
    _examples(bins)
    sums = bins.count, bins.confidence_sum, bins.correct_sum
    return Direction(float(signed_error(*sums)), float(signed_error(*sums, sign=-1.0)))


def signed_error(count: Ints, confidence_sum: Floats, correct_sum: Floats, sign: float = 1.0) -> Floats:
    """Returns the over-confident part of ECE (with sign -1 the under-confident): `[..., M]` in, float64 `[...]` out."""
    excess = np.maximum(sign * (confidence_sum - correct_sum), 0.0)
    return np.asarray(excess.sum(axis=-1) / count.sum(axis=-1), np.float64)


def oe(bins: Bins) -> float:
    """Returns the overconfidence error, `sum_m n_m/n conf_m max(conf_m - acc_m, 0)`, in [0, ECE].

    Source: Thulasidasan et al. (2019), section 3.  It measures over-confidence only: a network that is
    under-confident in every bin has OE 0 whatever its ECE.  Raises InputError without examples.
    """
    _examples(bins)
    return float(overconfidence_error(bins.count, bins.confidence_sum, bins.correct_sum))


def overconfidence_error(count: Ints, confidence_sum: Floats, correct_sum: Floats) -> Floats:
    """Returns `oe` for each set of bins along the last axis: arrays `[..., M]` in, float64 `[...]` out."""
    excess = np.maximum(confidence_sum - correct_sum, 0.0)
    error = (confidence_sum / np.maximum(count, 1) * excess).sum(axis=-1) / count.sum(axis=-1)
    return np.asarray(error, np.float64)


def mce(bins: Bins) -> float:
    """Returns the maximum calibration error, `max_m |acc_m - conf_m|` over non-empty bins, in [0, 1].

    Source: Guo et al. (2017), equation 4.  A bin with a single example can determine the result.
    Raises InputError without examples.
    """
    return ece(bins, norm="max")


def confidence_minus_accuracy(bins: Bins) -> float:
    """Returns mean confidence minus accuracy over all examples, in [-1, 1]; positive = over-confident.

    It does not depend on the bins.  Raises InputError without examples.
    """
    n = _examples(bins)
    return float(bins.confidence_sum.sum() - bins.correct_sum.sum()) / n


def bin_equal_mass(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> Bins:
    """Returns at most `n_bins` bins with about as many examples each; equal confidences share a bin.

    The examples are sorted by confidence.  Cut k = 1 .. M - 1 belongs after `k N / M` examples.  It
    moves to the nearest place where the confidence changes (the lower of two equally near ones); cuts
    that then coincide count once.  So the order of tied examples does not matter, no bin is empty, and
    a network of constant confidence has one bin, which shows its gap.  Without ties every bin holds
    N / M examples, rounded.

    The edges are confidences of examples.  Bin m holds (edges[m], edges[m + 1]], the first also 0, as in
    `bin_confidences`.  The edges depend on the data, so the bins of two sets cannot be merged.
    """
    confidences, outcomes = check_confidences(confidence, correct)
    bin_edges(n_bins)  # for its check
    if len(confidences) == 0:
        return Bins.empty(1)
    # Cut k is wanted after wanted[k - 1] / M examples, in whole numbers, so that rounding cannot decide.
    wanted = len(confidences) * np.arange(1, n_bins)
    ranks = -(-wanted // n_bins) - 1
    groups = groups_around(confidences, outcomes, ranks)
    up_to = np.concatenate([[0], groups.size.cumsum()])  # examples before each group, and all
    single = np.searchsorted(up_to[groups.singles], ranks)
    before_cut = groups.confidence[single]
    left, right = (np.searchsorted(groups.confidence, before_cut, side=side) for side in ("left", "right"))
    lower, upper = groups.singles[left], groups.singles[right - 1] + 1
    lower_is_nearer = wanted - n_bins * up_to[lower] <= n_bins * up_to[upper] - wanted
    ends = np.unique(np.concatenate([[0], np.where(lower_is_nearer, lower, upper), [len(groups.size)]]))
    last = np.searchsorted(groups.singles, ends[1:-1] - 1)  # of each bin but the last, a single example
    return Bins(
        edges=np.concatenate([[0.0], groups.confidence[last], [1.0]]),
        count=np.diff(up_to[ends]),
        confidence_sum=np.add.reduceat(groups.total, ends[:-1]),
        correct_sum=np.add.reduceat(groups.right, ends[:-1]).astype(np.float64),
    )


def tie_ends(ascending: Floats) -> Ints:
    """Returns 0, the numbers of examples after which the confidence changes, and N: int64 `[distinct + 1]`."""
    changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    return np.concatenate([[0], changes, [len(ascending)]]).astype(np.int64)


def equal_mass_cuts(ends: Ints, n_bins: int) -> Ints:
    """Returns the indices of those `ends` (ascending, from 0 to N) at which bins end, with the first and the last.

    The rule is that of `bin_equal_mass`, in whole numbers, so that rounding cannot decide.
    """
    wanted = ends[-1] * np.arange(1, n_bins)  # times n_bins, as all distances below
    upper = np.searchsorted(ends, -(-wanted // n_bins))
    # Each cut lies between 0 and the last end, so it has an end on either side.
    lower_is_nearer = wanted - n_bins * ends[upper - 1] <= n_bins * ends[upper] - wanted
    chosen = np.unique(np.concatenate([[0], upper - lower_is_nearer, [len(ends) - 1]]))
    # Ends repeat where a resample lacks an example; keep the first of equal ends.
    return chosen[np.concatenate([[True], np.diff(ends[chosen]) > 0])]


def adaptive_ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15, *, norm: str = "l1") -> float:
    """Returns ECE over bins of equal mass (adaptive calibration error), in [0, 1]; `norm` as of `ece`."""
    return ece(bin_equal_mass(confidence, correct, n_bins), norm)


def debiased_ece(bins: Bins, norm: str = "l2") -> float:
    """Returns the calibration error less its estimated bias, in [0, `ece(bins, norm)`].

    With gap_m = acc_m - conf_m:
      * "l2": `sqrt(max(0, sum_m n_m/n (gap_m^2 - acc_m (1 - acc_m) / (n_m - 1))))`; the sum is an unbiased
        estimate of the squared error for bins fixed beforehand (section 4.2 of the source).
      * "l1": `max(0, 2 ece - E)`, where E is the mean of ECE when each accuracy is drawn again from
        N(acc_m, acc_m (1 - acc_m) / n_m), in closed form instead of by the source's simulation.

    A bin with a single example gives no estimate of its noise and adds 0.  For a perfectly calibrated
    network, "l2" is 0 on about half of all test sets.
    """
    _examples(bins)
    return float(debiased_error(bins.count, bins.confidence_sum, bins.correct_sum, norm))


def debiased_error(count: Ints, confidence_sum: Floats, correct_sum: Floats, norm: str) -> Floats:
    """Returns `debiased_ece` for each set of bins along the last axis: `[..., M]` in, float64 `[...]` out."""
    known = np.maximum(count, 2)  # avoids division by 0; bins with count < 2 are not used below
    accuracy = correct_sum / known
    gap = np.abs(confidence_sum - correct_sum) / known
    spread = np.maximum(accuracy * (1.0 - accuracy), 0.0)
    if norm == "l2":
        terms = np.square(gap) - spread / (known - 1)
    elif norm == "l1":
        terms = 2.0 * gap - _mean_of_folded_normal(gap, np.sqrt(spread / known))
    else:
        raise unknown_name("norm", norm, ("l1", "l2"))
    total = (np.where(count >= 2, count, 0) * terms).sum(axis=-1) / count.sum(axis=-1)
    error = np.maximum(total, 0.0)
    return np.asarray(np.sqrt(error) if norm == "l2" else error, np.float64)


def _mean_of_folded_normal(mean: Floats, deviation: Floats) -> Floats:
    """Returns the mean of |X| for X ~ N(mean, deviation^2), where mean >= 0."""
    # Beyond 40 deviations the mass on the other side of 0 is 0 in float64; this also covers deviation 0.
    ratio = np.minimum(np.divide(mean, deviation, out=np.full(mean.shape, 40.0), where=deviation > 0), 40.0)
    erf = np.fromiter((math.erf(x / math.sqrt(2)) for x in ratio.ravel()), np.float64, ratio.size).reshape(ratio.shape)
    folded: Floats = deviation * math.sqrt(2 / math.pi) * np.exp(-np.square(ratio) / 2) + mean * erf
    return folded
