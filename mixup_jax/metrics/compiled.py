"""The compiled loops: confidences of rows of logits, and sums of confidences over each bin."""

from typing import Any

import numba
import numpy as np
from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

_LOG2_E = 1.4426950408889634
_TO_WHOLE = 1.5 * 2.0**52  # adding and then subtracting it rounds a number to the nearest whole one
_ONE_BITS = 1023 << 52  # of 1.0
LEAST = -700.0  # its exponential is still a normal float64, and negligible beside 1
# Minimax polynomial (Remez, 1934): 2^x = 1 + x (c_1 + x (c_2 + ..)) for |x| <= 1/2, relative error at most 2e-17.
_C1, _C2, _C3, _C4 = 0.6931471805599457, 0.24022650695910097, 0.05550410866479039, 0.009618129107607003
_C5, _C6, _C7, _C8 = 0.0013333558153439966, 0.0001540353044157213, 1.5252727385193868e-05, 1.3215442675329823e-06
_C9, _C10, _C11 = 1.0180647659234139e-07, 7.072570412814423e-09, 4.078071929588337e-10
ROWS = 64  # of a tile
# Up to the gap _NEAR exponentials are exact to 2e-15; up to the logit _SMALL float32 can hold the bound `least`.
_NEAR, _SMALL = 22.0, 2.0**16
_LABELS, _CONFIDENCE, _CORRECT = given(types.int64, 1), filled(types.float64, 1), filled(types.boolean, 1)


@numba.njit(fastmath={"contract"})
def exponential(x: float) -> float:
    """Returns exp(x) for -700 <= x <= 22, exactly 1 for x = 0, in a form that the compiler can vectorise."""
    power_of_two = x * _LOG2_E
    shifted = power_of_two + _TO_WHOLE
    rest = power_of_two - (shifted - _TO_WHOLE)
    power = _C9 + rest * (_C10 + rest * _C11)
    power = _C5 + rest * (_C6 + rest * (_C7 + rest * (_C8 + rest * power)))
    power = 1.0 + rest * (_C1 + rest * (_C2 + rest * (_C3 + rest * (_C4 + rest * power))))
    # The last bits of `shifted` hold the whole number, a factor's exponent.  A product keeps NaN, whatever its bits.
    scale = _ONE_BITS + (np.float64(shifted).view(np.int64) << 52)
    return power * np.int64(scale).view(np.float64)


@numba.njit
def at_least(x: float, least: float) -> float:
    """Returns the larger of the two; NaN stays NaN."""
    return least if x < least else x


@numba.njit
def bits_of_largest(bits: Any, high: int) -> int:
    """Returns the bits of the largest of some floats, given their bits as integers and `high`, the largest integer.

    Floats >= 0 are ordered as their bits are, negative floats in reverse; the compiler can vectorise a comparison of
    integers.  If one of the floats is NaN, the result may be the bits of any of them.
    """
    if high >= 0:
        return high
    low = high
    for k in range(bits.size):
        low = min(low, bits[k])
    return low


@numba.njit
def is_first(row: Any, value: Any, place: int) -> bool:
    """Returns whether `place` is the first position of a value in a row."""
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
    """Does what `confidence_of_narrow_rows` does, given the logits and also their bits as integers.

    A row is read once, with exponentials relative to its first logit.  If the largest logit turns out to be far above
    the first one, the row is read again, with exponentials relative to the largest.
    """
    of_largest = np.empty(1, bits.dtype)
    largest = of_largest.view(logits.dtype)  # the same memory
    for i in range(confidence.size):
        row, high, total = logits[i], bits[i, 0], 0.0
        first = np.float64(row[0])
        of_largest[0] = high  # so that `least` has the type of the logits
        largest[0] = first + LEAST
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
                total += exponential(at_least(row[k] - top, LEAST))
            confidence[i] = 1.0 / total
        correct[i] = is_first(row, largest[0], labels[i])


@numba.njit
def transpose(rows: Any, tile: Any, top: Any, of_top: Any) -> None:
    """Writes up to 64 rows into `tile` `[K, 64]`, and the largest logit of each and its (first) class."""
    for k in range(tile.shape[0]):
        column = tile[k]
        for i in range(rows.shape[0]):
            column[i] = rows[i, k]
    for i in range(ROWS):
        top[i], of_top[i] = tile[0, i], 0
    for k in range(1, tile.shape[0]):
        column = tile[k]
        for i in range(ROWS):
            larger = column[i] > top[i]
            top[i] = column[i] if larger else top[i]
            of_top[i] = k if larger else of_top[i]


@compiled([types.void(given(number, 2), _LABELS, _CONFIDENCE, _CORRECT) for number in (types.float32, types.float64)])
def confidence_of_narrow_rows(logits: Any, labels: Any, confidence: Any, correct: Any) -> None:
    """Writes 1 / sum_k exp(z_k - max z) for each row, and whether the label is the (first) class of the maximum.

    The confidence of a row with NaN, +inf or nothing but -inf is NaN.
    A row of few classes does not fill a vector register, so 64 rows are transposed and computed together.
    """
    examples, classes = logits.shape
    tile = np.zeros((classes, ROWS))
    top, total, of_top = np.empty(ROWS), np.empty(ROWS), np.empty(ROWS, np.int64)
    for start in range(0, examples, ROWS):
        rows = logits[start : start + ROWS]
        transpose(rows, tile, top, of_top)
        total[:] = 0.0
        for k in range(classes):
            column = tile[k]
            for i in range(ROWS):
                total[i] += exponential(at_least(column[i] - top[i], LEAST))
        for i in range(rows.shape[0]):
            confidence[start + i] = 1.0 / total[i]
            correct[start + i] = of_top[i] == labels[start + i]


_FLOATS, _BYTES, _SUMS = given(types.float64, 1), given(types.uint8, 1), filled(types.float64, 1)
_AT_ONCE = 1024  # examples at a time: their bins fit the first-level cache


@numba.njit
def bin_of(value: float, width: float, n_bins: int) -> int:
    """Returns the m with m * width < value <= (m + 1) * width, in [0, n_bins); value must be in [0, 1]."""
    # The product gives the bin or, after rounding or on an edge, the bin above it.
    bin_ = min(n_bins - 1, int(value * n_bins))
    return bin_ - ((bin_ > 0) & (value <= bin_ * width))


@compiled([types.boolean(_FLOATS, types.float64, types.int64, filled(types.int64, 1))])
def place(confidence: Any, width: float, n_bins: int, index: Any) -> bool:
    """Writes the bin of each confidence; returns whether all are in [0, 1], and any other is put into the first bin."""
    inside = True
    for i in range(confidence.size):
        valid = (confidence[i] >= 0.0) & (confidence[i] <= 1.0)
        inside &= valid
        index[i] = bin_of(confidence[i] if valid else 0.0, width, n_bins)
    return inside


@compiled([types.boolean(_FLOATS, _BYTES, types.float64, types.int64, _SUMS, _SUMS)])
def add_to_cells(confidence: Any, correct: Any, width: float, lanes: int, examples: Any, confidence_sum: Any) -> bool:
    """Adds each example to the sums `[2 M * lanes]` of its cell: its bin if it is wrong, M + its bin if it is correct.

    Successive examples use different lanes, so that an addition does not wait for the one before.  The number of lanes
    must be a power of two.  Returns whether all confidences are in [0, 1].
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
