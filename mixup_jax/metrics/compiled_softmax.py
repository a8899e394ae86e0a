"""The loops behind a confidence: the largest of the softmax probabilities of each row of logits."""

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
_LOGITS = given(types.float32, 2), given(types.float64, 2)


@numba.njit(fastmath={"contract"})
def exponential(x: float) -> float:
    """Returns exp(x) for x <= 0 (1e-304 below -700): what the compiler can compute for several x at once."""
    bounded = _LEAST if x < _LEAST else x  # and NaN stays NaN
    power_of_two = bounded * _LOG2_E
    shifted = power_of_two + _TO_WHOLE
    rest = power_of_two - (shifted - _TO_WHOLE)
    power = _C9 + rest * (_C10 + rest * _C11)
    power = _C5 + rest * (_C6 + rest * (_C7 + rest * (_C8 + rest * power)))
    power = 1.0 + rest * (_C1 + rest * (_C2 + rest * (_C3 + rest * (_C4 + rest * power))))
    # The last bits of `shifted` are the whole number: it is added to the exponent.
    bits = np.float64(power).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
    return np.int64(bits).view(np.float64)


@numba.njit
def bits_of_largest(bits: Any) -> int:
    """Returns the bits of the largest of some numbers, given theirs as whole numbers; of any if one is NaN.

    Numbers that are not negative compare as their bits do, and negative ones the other way round; of whole numbers the
    compiler can compare several at once.
    """
    high = bits[0]
    for k in range(bits.size):
        high = max(high, bits[k])
    if high >= 0:
        return high
    low = high
    for k in range(bits.size):
        low = min(low, bits[k])
    return low


@numba.njit
def first_place(row: Any, value: Any) -> int:
    """Returns the first place of a value in a row, its size if there is none."""
    place = row.size
    for k in range(row.size):
        place = min(place, k if row[k] == value else row.size)
    return place


# The sum of a row may be made in any order.
@compiled(
    [
        types.void(given(number, 2), given(bits, 2), filled(types.float64, 1), filled(types.int64, 1))
        for number, bits in ((types.float32, types.int32), (types.float64, types.int64))
    ],
    fastmath=frozenset({"reassoc"}),
)
def confidence_of_wide_rows(logits: Any, bits: Any, confidence: Any, predicted: Any) -> None:
    """As `confidence_of_narrow_rows`, given the logits and their bits as whole numbers."""
    of_largest = np.empty(1, bits.dtype)
    largest = of_largest.view(logits.dtype)  # the same memory
    for i in range(confidence.size):
        row, total = logits[i], 0.0
        of_largest[0] = bits_of_largest(bits[i])
        predicted[i], top = first_place(row, largest[0]), np.float64(largest[0])
        for k in range(row.size):
            total += exponential(row[k] - top)
        confidence[i] = 1.0 / total


@compiled([types.void(logits, filled(types.float64, 1), filled(types.int64, 1)) for logits in _LOGITS])
def confidence_of_narrow_rows(logits: Any, confidence: Any, predicted: Any) -> None:
    """Writes 1 / sum_k exp(z_k - max z) and the class of the maximum (of equal ones the first) for each row.

    A row of few classes does not fill the processor's vectors, so that 64 rows are turned over and computed together.
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
                total[i] += exponential(column[i] - top[i])
        for i in range(rows.shape[0]):
            confidence[start + i] = 1.0 / total[i]
            predicted[start + i] = of_top[i]
