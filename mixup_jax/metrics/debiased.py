"""Calibration error without the part that chance adds (Kumar, Liang & Ma, 2019, arXiv:1909.10155).

With n_m examples in a bin, its accuracy is off by chance with variance near acc (1 - acc) / n_m; absolute
values and squares turn this into error.  What can be estimated of it is subtracted.
"""

from __future__ import annotations

import math

import numpy as np

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.calibration import Bins
from mixup_jax.metrics.scores import Floats, Ints


def debiased_ece(bins: Bins, norm: str = "l2") -> float:
    """Returns the calibration error less its estimated bias, in [0, `ece(bins, norm)`].

    With gap_m = acc_m - conf_m:
      * "l2": `sqrt(max(0, sum_m n_m/n (gap_m^2 - acc_m (1 - acc_m) / (n_m - 1))))`; the sum is an unbiased
        estimate of the squared error for bins fixed beforehand (section 4.2 of the source).
      * "l1": `max(0, 2 ece - E)`, where E is the mean of ECE when each accuracy is drawn again from
        N(acc_m, acc_m (1 - acc_m) / n_m), in closed form instead of by the source's simulation.

    A bin with a single example says nothing about its own noise and adds 0.  Of a perfectly calibrated
    network about half of all test sets give 0 with "l2".

    Args:
      bins: equally wide or of equal mass; the source uses equal mass.
      norm: "l2" or "l1".

    Raises:
      InputError: there are no examples, or no such norm.
    """
    if bins.n == 0:
        raise InputError("bins hold no examples; expected at least one")
    return float(debiased_error(bins.count, bins.confidence_sum, bins.correct_sum, norm))


def debiased_error(count: Ints, confidence_sum: Floats, correct_sum: Floats, norm: str) -> Floats:
    """Returns `debiased_ece` for each set of bins along the last axis: `[..., M]` in, float64 `[...]` out."""
    known = np.maximum(count, 2)  # only where count >= 2 is any of this used
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
    # Beyond 40 deviations the normal distribution has no other side left; this also serves deviation 0.
    ratio = np.minimum(np.divide(mean, deviation, out=np.full(mean.shape, 40.0), where=deviation > 0), 40.0)
    erf = np.fromiter((math.erf(x / math.sqrt(2)) for x in ratio.ravel()), np.float64, ratio.size).reshape(ratio.shape)
    folded: Floats = deviation * math.sqrt(2 / math.pi) * np.exp(-np.square(ratio) / 2) + mean * erf
    return folded
