"""The compiled loops for the losses of rows of logits.

With z the logits of a row, y its label and e_k = exp(z_k - max z), x is the sum of e_k over all classes but one of the
largest.  Then the negative log-likelihood is log(1 + x) + max z - z_y, and the Brier score is
((sum over k != y of e_k)^2 + sum over k != y of e_k^2) / (1 + x)^2.  No two large numbers are subtracted, so very sure
and right predictions keep their relative precision.
"""

import math
from typing import Any

import numba
import numpy as np
from numba import types

from mixup_jax.metrics.compiled import LEAST, ROWS, at_least, bits_of_largest, exponential, transpose
from mixup_jax.metrics.compiling import compiled, filled, given

_TOO_SMALL = 1e-280  # of x, which is then summed again: no exponential is below exp(LEAST)
_UNIT, _SMALL_UNIT = 1.5 * 2.0**21, 1.5 * 2.0**-10  # the last bit of numbers near them is 2^-31 and 2^-62
_LABELS, _NUMBERS = given(types.int64, 1), filled(types.float64, 1)


@numba.njit(error_model="numpy")  # which looks for no division by zero, so that the compiler can vectorise it
def brier_of(x: float, squares: float, of_label: float, right: bool) -> float:
    """Returns the Brier score from x, a sum of e_k^2 like x, e_y, and whether y is one of the largest classes."""
    others = x if right else 1.0 + (x - of_label)
    other_squares = squares if right else 1.0 + (squares - of_label * of_label)
    return (others * others + other_squares) / ((1.0 + x) * (1.0 + x))


@numba.njit
def whole_parts(x: float) -> tuple[Any, Any]:
    """Returns x, in [0, 1], as a whole number of 2^-31, and the rest as one of 2^-62."""
    upper = x + _UNIT
    rest = x - (upper - _UNIT)
    whole = np.float64(upper).view(np.int64) - np.float64(_UNIT).view(np.int64)
    return whole, np.float64(rest + _SMALL_UNIT).view(np.int64) - np.float64(_SMALL_UNIT).view(np.int64)


@numba.njit(fastmath={"reassoc"})
def sum_of_squares(values: Any) -> float:
    """Returns the sum of the squares, made in any order."""
    total = 0.0
    for k in range(values.size):
        total += values[k] * values[k]
    return total


@numba.njit
def rare_row(row: Any, top: float, x: float) -> float:
    """Returns x of a row whose largest logit `top` is not finite, then NaN, or whose x was too small to be right."""
    if not math.isfinite(top + x):
        return np.nan
    second, total = -np.inf, 0.0
    for k in range(row.size):
        if row[k] != top and row[k] > second:
            second = row[k]
    if second > -np.inf:
        for k in range(row.size):
            if row[k] != top:
                total += math.exp(row[k] - second)
    return math.exp(second - top) * total


# The sums of a row may be made in any order, and a square may be added without being rounded first.
@compiled(
    [
        types.void(given(number, 2), given(bits, 2), _LABELS, _NUMBERS, _NUMBERS, _NUMBERS)
        for number, bits in ((types.float32, types.int32), (types.float64, types.int64))
    ],
    fastmath=frozenset({"reassoc", "contract"}),
)
def losses_of_wide_rows(logits: Any, bits: Any, labels: Any, others: Any, below: Any, brier: Any) -> None:
    """Does what `losses_of_narrow_rows` does, given the logits and also their bits as integers."""
    of_largest = np.empty(1, bits.dtype)
    largest = of_largest.view(logits.dtype)  # the same memory
    for i in range(others.size):
        row, high = logits[i], bits[i, 0]
        for k in range(row.size):
            high = max(high, bits[i, k])
        of_largest[0] = bits_of_largest(bits[i], high)
        top, place = np.float64(largest[0]), np.int32(0)
        for k in range(row.size):
            place = max(place, np.int32(k) if row[k] == largest[0] else np.int32(0))
        x, squares, gap = 0.0, 0.0, top - row[labels[i]]
        for others_of_row in (row[:place], row[place + 1 :]):  # without one of the largest
            if brier.size:  # a loop for each: asked within one loop, it takes half as long again
                for k in range(others_of_row.size):
                    power = exponential(at_least(others_of_row[k] - top, LEAST))
                    x += power
                    squares += power * power
            else:
                for k in range(others_of_row.size):
                    x += exponential(at_least(others_of_row[k] - top, LEAST))
        if not (x >= _TOO_SMALL) & math.isfinite(top):
            x = rare_row(row, top, x)
        others[i], below[i] = x, gap
        if brier.size:
            brier[i] = brier_of(x, squares, math.exp(-gap), gap == 0.0)


@compiled(
    [types.void(given(number, 2), _LABELS, _NUMBERS, _NUMBERS, _NUMBERS) for number in (types.float32, types.float64)]
)
def losses_of_narrow_rows(logits: Any, labels: Any, others: Any, below: Any, brier: Any) -> None:
    """Writes x, max z - z_y and, unless it is of length 0, the Brier score of each row.

    x is NaN for a row with NaN, +inf or nothing but -inf.

    A row of few classes does not fill a vector register, so 64 rows are transposed and computed together.
    """
    examples, classes = logits.shape
    tile, gap, of_label = np.zeros((classes, ROWS)), np.zeros(ROWS), np.zeros(ROWS)
    top, total, squares, of_top = np.empty(ROWS), np.empty(ROWS), np.empty(ROWS), np.empty(ROWS, np.int64)
    for start in range(0, examples, ROWS):
        rows = logits[start : start + ROWS]
        transpose(rows, tile, top, of_top)
        total[:], squares[:] = 0.0, 0.0
        for i in range(rows.shape[0]):
            # Of an unsigned index numba does not ask whether it counts from the end.
            gap[i] = top[i] - tile[np.uint64(labels[start + i]), i]
            tile[np.uint64(of_top[i]), i] = -np.inf  # the one that x leaves out
        if brier.size:
            for k in range(classes):
                column = tile[k]
                for i in range(ROWS):
                    power = exponential(at_least(column[i] - top[i], LEAST))
                    column[i] = power
                    total[i] += power
            for k in range(0, classes - 1, 2):  # in a loop of its own, two at a time, which is faster
                column, after = tile[k], tile[k + 1]
                for i in range(ROWS):
                    squares[i] += column[i] * column[i] + after[i] * after[i]
            if classes % 2:
                column = tile[classes - 1]
                for i in range(ROWS):
                    squares[i] += column[i] * column[i]
            for i in range(ROWS):
                of_label[i] = exponential(at_least(-gap[i], LEAST))
            score = brier[start : start + ROWS]
            for i in range(score.size):
                score[i] = brier_of(total[i], squares[i], of_label[i], gap[i] == 0.0)
        else:
            for k in range(classes):
                column = tile[k]
                for i in range(ROWS):
                    total[i] += exponential(at_least(column[i] - top[i], LEAST))
        usual = 0
        for i in range(ROWS):  # without a branch, so that the compiler can vectorise it
            usual += (total[i] >= _TOO_SMALL) & (abs(top[i]) < np.inf)
        for i in range(0 if usual == ROWS else rows.shape[0]):
            if not (total[i] >= _TOO_SMALL) & math.isfinite(top[i]):
                total[i] = rare_row(rows[i], top[i], total[i])
        for i in range(rows.shape[0]):
            others[start + i] = total[i]
            below[start + i] = gap[i]


@compiled([types.void(given(types.float64, 2), given(types.int64, 2), *4 * [_NUMBERS])])
def sums_of_others(logits: Any, bits: Any, gap: Any, total: Any, squares: Any, spread: Any) -> None:
    """Writes sums over all classes of a row but one of the largest, with exponentials relative to the largest of these.

    That is `gap` below the largest of all (0 if there are no others that are possible).  With d_k = z_k - its logit,
    the sums are those of exp(d_k), exp(2 d_k) and -d_k exp(d_k).  The first and last are added as whole numbers, in
    units of 2^-31 and 2^-62, so that the order of the classes does not matter.  Logits must not be NaN or +inf.
    """
    powers, products = np.empty(logits.shape[1]), np.empty(logits.shape[1])
    of_top = np.empty(1, np.int64)
    largest = of_top.view(np.float64)  # the same memory
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    for i in range(gap.size):
        row, high = logits[i], bits[i, 0]
        for k in range(row.size):
            high = max(high, bits[i, k])
        of_top[0] = bits_of_largest(bits[i], high)
        top, equal, high, low = largest[0], -1, lowest, highest
        for k in range(row.size):
            is_top = row[k] == top
            equal += is_top
            high = max(high, lowest if is_top else bits[i, k])
            low = min(low, highest if is_top else bits[i, k])
        of_top[0] = high if high >= 0 else low
        second = top if equal > 0 else largest[0]
        upper = lower = upper_spread = lower_spread = 0
        powers[:] = 0.0
        # One thing in each loop, which the compiler then vectorises: together they take six times as long.
        if second > -np.inf:
            for k in range(row.size):
                below = at_least(row[k] - second, LEAST)
                is_top = row[k] == top
                power = exponential(below)
                powers[k] = 0.0 if is_top else power
                products[k] = 0.0 if is_top else -power * below
            for k in range(row.size):
                whole, part = whole_parts(powers[k])
                upper += whole
                lower += part
            for k in range(row.size):
                whole, part = whole_parts(products[k])
                upper_spread += whole
                lower_spread += part
        gap[i] = second - top if second > -np.inf else 0.0
        total[i] = equal + (upper * 2.0**-31 + lower * 2.0**-62)
        squares[i] = equal + sum_of_squares(powers)
        spread[i] = upper_spread * 2.0**-31 + lower_spread * 2.0**-62


@compiled(
    [types.boolean(given(number, 2), _LABELS, filled(types.int64, 1)) for number in (types.float32, types.float64)]
)
def classes_ahead(logits: Any, labels: Any, ahead: Any) -> bool:
    """Writes how many classes have a larger logit than the label, or an equal one and come before it.

    Returns False if a row contains NaN or +inf, or only -inf.
    """
    valid = True
    for i in range(ahead.size):
        row, of_label, above, finite, wrong = logits[i], logits[i, labels[i]], 0, 0, 0
        for k in range(row.size):
            above += row[k] > of_label
            finite += row[k] > -np.inf
            wrong += not row[k] < np.inf
        for k in range(labels[i]):
            above += row[k] == of_label
        ahead[i] = above
        valid &= (finite > 0) & (wrong == 0)
    return valid
