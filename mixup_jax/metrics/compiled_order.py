"""The compiled loops that sort scores, compare two sorted sets, and count confidences in narrow cells."""

from typing import Any

import numba
import numpy as np
from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

_BITS, _DIGITS = 8, 8  # of a digit; digits of a key.  Longer digits would be written to more places than a cache has
_FLOATS, _INTS, _KEYS = given(types.float64, 1), filled(types.int64, 1), filled(types.uint64, 1)
# Cells are equally wide in each octave of 1 - confidence, since most confidences of a good network are near 1, or else
# of the probability itself, since most of one class are near 0.
_SHIFT, _ONE, _LEAST = (
    43,
    0x3FF << 9,
    969 << 9,
)  # the bits of 1 and of less than 2^-53, the least 1 - confidence above 0
CELLS = _ONE - _LEAST + 1


@numba.njit
def sort_by_digits(keys: Any, spare: Any, first: int) -> None:
    """Sorts keys by their digits from `first` (0 is the lowest) upwards, an even number of digits."""
    mask = np.uint64((1 << _BITS) - 1)
    counts = np.zeros((_DIGITS, 1 << _BITS), np.int64)
    for i in range(keys.size):
        for digit in range(first, _DIGITS):
            counts[digit, (keys[i] >> np.uint64(_BITS * digit)) & mask] += 1
    for digit in range(first, _DIGITS):
        count, shift, place = counts[digit], np.uint64(_BITS * digit), 0
        for value in range(count.size):
            place, count[value] = place + count[value], place
        for i in range(keys.size):
            value = (keys[i] >> shift) & mask
            spare[count[value]] = keys[i]
            count[value] += 1
        keys, spare = spare, keys


@numba.njit
def sort_by_insertion(keys: Any, most: int) -> bool:
    """Sorts keys that are nearly sorted; returns False, with the same keys in some order, after `most` moves."""
    for i in range(1, keys.size):
        key, place = keys[i], i
        while place > 0 and keys[place - 1] > key:
            keys[place] = keys[place - 1]
            place -= 1
        keys[place] = key
        most -= i - place
        if most < 0:
            return False
    return True


@compiled([types.void(_FLOATS, _KEYS, _KEYS)])
def radix_sort(values: Any, keys: Any, spare: Any) -> None:
    """Writes the bits of the values, which must not contain NaN, in ascending order to `keys`; -0 becomes 0.

    Keys, ordered as the values are, are sorted by the upper half of the bits in which they differ.  That leaves few out
    of order, unless many values are very near to each other; then they are sorted by all bits.
    """
    sign, lowest, highest = np.uint64(1 << 63), ~np.uint64(0), np.uint64(0)
    for i in range(values.size):
        bits = np.float64(values[i] + 0.0).view(np.uint64)
        key = bits ^ (np.uint64(np.int64(bits) >> 63) | sign)  # all bits of a negative number, else its sign, change
        keys[i] = key
        lowest, highest = min(lowest, key), max(highest, key)
    unused = np.uint64(0)  # bits
    while unused < np.uint64(63) and ((highest - lowest) << unused) < sign:
        unused += np.uint64(1)
    for i in range(values.size):
        keys[i] = (keys[i] - lowest) << unused
    sort_by_digits(keys, spare, _DIGITS // 2)
    if not sort_by_insertion(keys, 4 * keys.size):
        sort_by_digits(keys, spare, 0)
    for i in range(values.size):
        key = (keys[i] >> unused) + lowest
        keys[i] = key ^ (~np.uint64(np.int64(key) >> 63) | sign)


@compiled([types.int64(_FLOATS, _FLOATS, _INTS)])
def count_wins(scores: Any, others: Any, wins: Any) -> int:
    """Returns the sum of twice the number of `others` below each score, a tie counting 1/2; both must be ascending.

    Writes the summands too, unless `wins` is of length 0.
    """
    below = up_to = total = 0
    for i in range(scores.size):
        while below < others.size and others[below] < scores[i]:
            below += 1
        up_to = max(up_to, below)
        while up_to < others.size and others[up_to] <= scores[i]:
            up_to += 1
        total += below + up_to
        if wins.size:
            wins[i] = below + up_to
    return total


@numba.njit
def cell_of(probability: float, near_one: bool) -> int:
    """Returns the cell of a probability: in [0, CELLS), never lower for a higher probability."""
    small = 1.0 - probability if near_one else probability
    upper_bits: Any = np.float64(small).view(np.int64) >> _SHIFT
    upper_bits = max(upper_bits, _LEAST)
    return int(_ONE - upper_bits if near_one else upper_bits - _LEAST)


@compiled([types.void(_FLOATS, types.boolean, given(types.uint8, 1), _INTS, _INTS, filled(types.float64, 1))])
def count_in_cells(confidence: Any, near_one: bool, correct: Any, count: Any, right: Any, total: Any) -> None:
    """Adds to each cell its number of examples, of correct ones, and the sum of their confidences."""
    for i in range(confidence.size):
        cell = cell_of(confidence[i], near_one)
        count[cell] += 1
        right[cell] += correct[i]
        total[cell] += confidence[i]


@compiled([types.int64(_FLOATS, types.boolean, given(types.boolean, 1), _INTS)])
def find_in_cells(confidence: Any, near_one: bool, chosen: Any, found: Any) -> int:
    """Writes the positions of the examples in chosen cells, and returns how many there are."""
    size = 0
    for i in range(confidence.size):
        if chosen[cell_of(confidence[i], near_one)]:
            found[size] = i
            size += 1
    return size


@compiled([types.void(_FLOATS, types.boolean, _INTS)])
def write_cells(confidence: Any, near_one: bool, cells: Any) -> None:
    """Writes the cell of each confidence."""
    for i in range(confidence.size):
        cells[i] = cell_of(confidence[i], near_one)
