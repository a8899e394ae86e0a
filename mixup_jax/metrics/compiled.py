"""The compiled loops: confidences of rows of logits, and sums of confidences that belong to one bin."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

_LOG2_E = 1.4426950408889634
_TO_WHOLE = 1.5 * 2.0**52  # added to a number and taken away again, it leaves the nearest whole one
_LEAST = -700.0  # whose exponential is still a normal number, and nothing beside 1
# 2^x = 1 + x (c_1 + x (c_2 + ..)) for |x| <= 1/2 with the least largest relative error, 2e-17 (Remez, 1934).
_C1, _C2, _C3, _C4 = 0.6931471805599457, 0.24022650695910097, 0.05550410866479039, 0.009618129107607003
_C5, _C6, _C7, _C8 = 0.0013333558153439966, 0.0001540353044157213, 1.5252727385193868e-05, 1.3215442675329823e-06
_C9, _C10, _C11 = 1.0180647659234139e-07, 7.072570412814423e-09, 4.078071929588337e-10
_ROWS = 64  # of a tile
_NEAR, _SMALL = 22.0, 2.0**16  # gaps and logits whose exponential is exact to 2e-15 and whose bounds are to float32
_LABELS, _CONFIDENCE, _CORRECT = given(types.int64, 1), filled(types.float64, 1), filled(types.boolean, 1)


@numba.njit(fastmath={"contract"})
def exponential(x: float) -> float:
    """Returns exp(x) for -700 <= x <= 22, and exactly 1 for 0: what the compiler can compute for several x at once."""
    power_of_two = x * _LOG2_E
    shifted = power_of_two + _TO_WHOLE
    rest = power_of_two - (shifted - _TO_WHOLE)
    power = _C9 + rest * (_C10 + rest * _C11)
    power = _C5 + rest * (_C6 + rest * (_C7 + rest * (_C8 + rest * power)))
    power = 1.0 + rest * (_C1 + rest * (_C2 + rest * (_C3 + rest * (_C4 + rest * power))))
    # The last bits of `shifted` are the whole number: it is added to the exponent.
    bits = np.float64(power).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
    return np.int64(bits).view(np.float64)


@numba.njit
def at_least(x: float, least: float) -> float:
    """Returns the larger of the two; NaN stays NaN."""
    return least if x < least else x


@numba.njit
def bits_of_largest(bits: Any, high: int) -> int:
    """Returns the bits of the largest of some numbers, given theirs as whole numbers, of which `high` is the largest.

    Numbers that are not negative compare as their bits do, and negative ones the other way round; of whole numbers the
    compiler can compare several at once.  Which of them it returns if one is NaN is open.
    """
    if high >= 0:
        return high
    low = high
    for k in range(bits.size):
        low = min(low, bits[k])
    return low


@numba.njit
def is_first(row: Any, value: Any, place: int) -> bool:
    """Returns whether a row has a value at a place and not before it."""
    before = 0
    if row[place] == value:
        for k in range(place):
            before += row[k] == value
    return (row[place] == value) & (before == 0)


# The sum of a row may be made in any order.
@compiled(
    [
        types.void(given(number, 2), given(bits, 2), _LABELS, _CONFIDENCE, _CORRECT)
        for number, bits in ((types.float32, types.int32), (types.float64, types.int64))
    ],
    fastmath=frozenset({"reassoc"}),
)
def confidence_of_wide_rows(logits: Any, bits: Any, labels: Any, confidence: Any, correct: Any) -> None:
    """As `confidence_of_narrow_rows`, given the logits and their bits as whole numbers.

    A row is read once: exponentials are relative to its first logit, and only where the largest turns out to be far
    above that one, relative to the largest in a second reading.
    """
    of_largest = np.empty(1, bits.dtype)
    largest = of_largest.view(logits.dtype)  # the same memory
    for i in range(confidence.size):
        row, high, total = logits[i], bits[i, 0], 0.0
        first = np.float64(row[0])
        of_largest[0] = high  # for the type of `least`, that of the logits
        largest[0] = first + _LEAST
        least = largest[0]
        for k in range(row.size):
            total += exponential(at_least(row[k], least) - first)
            high = max(high, bits[i, k])
        of_largest[0] = bits_of_largest(bits[i], high)
        top = np.float64(largest[0])
        if (abs(first) <= _SMALL) & (top - first <= _NEAR):
            confidence[i] = exponential(top - first) / total
        else:
            total = 0.0
            for k in range(row.size):
                total += exponential(at_least(row[k] - top, _LEAST))
            confidence[i] = 1.0 / total
        correct[i] = is_first(row, largest[0], labels[i])


@compiled([types.void(given(number, 2), _LABELS, _CONFIDENCE, _CORRECT) for number in (types.float32, types.float64)])
def confidence_of_narrow_rows(logits: Any, labels: Any, confidence: Any, correct: Any) -> None:
    """Writes 1 / sum_k exp(z_k - max z) for each row, and whether its label is its maximum (of equal ones the first).

    The confidence of a row with NaN, +inf or nothing but -inf is NaN.
    A row of few classes does not fill a vector register, so 64 rows are transposed and computed together.
    """
    examples, classes = logits.shape
    tile = np.zeros((classes, _ROWS))
    top, total, of_top = np.empty(_ROWS), np.empty(_ROWS), np.empty(_ROWS, np.int64)
    for start in range(0, examples, _ROWS):
        rows = logits[start : start + _ROWS]
        for k in range(classes):
            column = tile[k]
            for i in range(rows.shape[0]):
                column[i] = rows[i, k]
        for i in range(_ROWS):
            top[i], of_top[i], total[i] = tile[0, i], 0, 0.0
        for k in range(1, classes):
            column = tile[k]
            for i in range(_ROWS):
                larger = column[i] > top[i]
                top[i] = column[i] if larger else top[i]
                of_top[i] = k if larger else of_top[i]
        for k in range(classes):
            column = tile[k]
            for i in range(_ROWS):
                total[i] += exponential(at_least(column[i] - top[i], _LEAST))
        for i in range(rows.shape[0]):
            confidence[start + i] = 1.0 / total[i]
            correct[start + i] = of_top[i] == labels[start + i]


_FLOATS, _BYTES, _SUMS = given(types.float64, 1), given(types.uint8, 1), filled(types.float64, 1)
_AT_ONCE = 1024  # examples: their bins stay in the nearest cache


@compiled([types.boolean(_FLOATS, types.float64, types.int64, filled(types.int64, 1))])
def place(confidence: Any, width: float, n_bins: int, index: Any) -> bool:
    """Writes the bin of each confidence: the m with m * width < confidence <= (m + 1) * width, in [0, n_bins).

    Returns whether all are in [0, 1]; one that is not is put into the first bin.
    """
    last, inside = n_bins - 1, True
    for i in range(confidence.size):
        valid = (confidence[i] >= 0.0) & (confidence[i] <= 1.0)
        inside &= valid
        value = confidence[i] if valid else 0.0
        # Multiplying finds the bin or, by rounding or on an edge, the one above it.
        bin_ = min(last, int(value * n_bins))
        bin_ -= (bin_ > 0) & (value <= bin_ * width)
        index[i] = bin_
    return inside


@compiled([types.boolean(_FLOATS, _BYTES, types.float64, types.int64, _SUMS, _SUMS)])
def add_to_cells(confidence: Any, correct: Any, width: float, lanes: int, examples: Any, confidence_sum: Any) -> bool:
    """Adds each example to the sums `[2 M * lanes]` of its cell: its bin among wrong or, M further, right ones.

    Successive examples use different lanes, so that an addition need not wait for the one before.  The number of lanes
    is a power of two.  Returns whether all confidences are in [0, 1].
    """
    inside = True
    n_bins = examples.size // lanes // 2
    index = np.empty(_AT_ONCE, np.int64)
    for start in range(0, confidence.size, _AT_ONCE):
        part, right = confidence[start : start + _AT_ONCE], correct[start : start + _AT_ONCE]
        inside &= place(part, width, n_bins, index)
        for i in range(part.size):
            index[i] = (index[i] + n_bins * right[i]) * lanes + (i & (lanes - 1))
        for i in range(part.size):
            cell = np.uint64(index[i])
            examples[cell] += 1.0
            confidence_sum[cell] += part[i]
    return inside
