"""The compiled loops over the probabilities of all classes: their bins, and those above a threshold."""

import math
from typing import Any

import numba
import numpy as np
from numba import types

from mixup_jax.metrics.compiled import LEAST, at_least, bin_of, bits_of_largest, exponential
from mixup_jax.metrics.compiling import compiled, filled, given

_TOGETHER = 64  # classes of which it is found out at once whether any is outside the first bin


@numba.njit(fastmath={"reassoc"})
def probabilities_of_row(row: Any, top: float, temperature: float, probability: Any) -> float:
    """Writes the probabilities of a row whose largest logit is `top`; returns the sum that they were divided by."""
    total = 0.0
    for k in range(row.size):
        power = exponential(at_least((row[k] - top) / temperature, LEAST))
        probability[k] = power
        total += power
    for k in range(row.size):
        probability[k] /= total
    return total


@compiled(
    [
        types.boolean(
            *(given(number, 2), given(bits, 2), given(types.int64, 1)),
            *3 * [types.float64],
            *3 * [filled(types.float64, 2)],
        )
        for number, bits in ((types.float32, types.int32), (types.float64, types.int64))
    ]
)
def add_to_bins_of_classes(
    logits: Any,
    bits: Any,
    labels: Any,
    temperature: float,
    threshold: float,
    width: float,
    count: Any,
    total: Any,
    right: Any,
) -> bool:
    """Adds the probabilities above the threshold to the bins of their classes, `[K, M]` each.

    Almost all of many probabilities are in the first bin, so these are added without looking for their bin.
    Returns False if the largest logit of a row is not finite, or the row contains NaN.
    """
    classes, n_bins = count.shape
    probability, first_count, first_total = np.empty(classes), np.zeros(classes), np.zeros(classes)
    of_largest = np.empty(1, bits.dtype)
    largest = of_largest.view(logits.dtype)  # the same memory
    valid = True
    for i in range(logits.shape[0]):
        high = bits[i, 0]
        for k in range(classes):
            high = max(high, bits[i, k])
        of_largest[0] = bits_of_largest(bits[i], high)
        sum_ = probabilities_of_row(logits[i], np.float64(largest[0]), temperature, probability)
        valid &= np.isfinite(largest[0]) & (sum_ > 0.0)
        for k in range(classes):
            first = (probability[k] > threshold) & (probability[k] <= width)
            first_count[k] += 1.0 if first else 0.0
            first_total[k] += probability[k] if first else 0.0
        for start in range(0, classes, _TOGETHER):
            end, outside = min(start + _TOGETHER, classes), 0
            for k in range(start, end):
                outside += probability[k] > width
            if outside:
                for k in range(start, end):
                    if probability[k] > max(width, threshold):
                        bin_ = bin_of(probability[k], width, n_bins)
                        count[k, bin_] += 1.0
                        total[k, bin_] += probability[k]
        if probability[labels[i]] > threshold:
            right[labels[i], bin_of(probability[labels[i]], width, n_bins)] += 1.0
    for k in range(classes):
        count[k, 0] += first_count[k]
        total[k, 0] += first_total[k]
    return valid


@compiled(
    [
        types.boolean(
            *(given(number, 2), given(bits, 2), *2 * [types.float64]),
            *(*3 * [filled(types.float64, 1)], filled(types.int64, 1)),
        )
        for number, bits in ((types.float32, types.int32), (types.float64, types.int64))
    ]
)
def count_likely(
    logits: Any, bits: Any, temperature: float, threshold: float, top: Any, total: Any, least: Any, count: Any
) -> bool:
    """Adds to each class how many of its logits may have a probability above the threshold; returns as the loop above.

    Writes the largest logit of each row, the sum of exp((z_k - it) / temperature), and a logit a little lower than any
    whose probability is above the threshold.
    """
    probability = np.empty(logits.shape[1])
    of_largest = np.empty(1, bits.dtype)
    largest = of_largest.view(logits.dtype)  # the same memory
    valid = True
    for i in range(logits.shape[0]):
        row, high = logits[i], bits[i, 0]
        for k in range(row.size):
            high = max(high, bits[i, k])
        of_largest[0] = bits_of_largest(bits[i], high)
        top[i] = largest[0]
        total[i] = probabilities_of_row(row, top[i], temperature, probability)
        valid &= np.isfinite(top[i]) & (total[i] > 0.0)
        least[i] = top[i] + temperature * (math.log(threshold * total[i]) - 1e-6) if threshold > 0.0 else -np.inf
        for k in range(row.size):
            count[k] += row[k] >= least[i]
    return valid


@compiled(
    [
        types.void(
            *(given(number, 2), given(types.int64, 1), *2 * [types.int64], *2 * [types.float64]),
            *(*3 * [given(types.float64, 1)], filled(types.int64, 1), filled(types.float64, 1)),
        )
        for number in (types.float32, types.float64)
    ]
)
def write_above(
    logits: Any,
    labels: Any,
    first: int,
    last: int,
    temperature: float,
    threshold: float,
    top: Any,
    total: Any,
    least: Any,
    place: Any,
    kept: Any,
) -> None:
    """Writes the probabilities above the threshold of the classes from `first` to before `last`; see `count_likely`.

    That of class `first + k` is written to `kept[place[k]]`, and its place moves on; that of the label gets a minus.
    """
    for i in range(logits.shape[0]):
        for start in range(first, last, _TOGETHER):
            row, likely = logits[i, start : min(start + _TOGETHER, last)], 0
            for k in range(row.size):
                likely += row[k] >= least[i]
            if likely:
                for k in range(row.size):
                    if row[k] >= least[i]:
                        probability = exponential(at_least((row[k] - top[i]) / temperature, LEAST)) / total[i]
                        if probability > threshold:
                            of_class = start + k - first
                            kept[place[of_class]] = -probability if labels[i] == start + k else probability
                            place[of_class] += 1
