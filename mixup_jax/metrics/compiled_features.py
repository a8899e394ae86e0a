"""The compiled loops for features: the largest of rows, and float16 counted and widened."""

from typing import Any

import numpy as np
from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

_LOOK = 64  # values that are compared at once with the least that is kept


@compiled([types.void(given(types.float32, 2), filled(types.float32, 2))])
def keep_largest(values: Any, kept: Any) -> None:
    """Puts the largest of `values` `[n, M]` and of `kept` `[n, k]` into `kept`, row by row, the least of them first.

    A row of `kept` is a heap: each entry is at most those at twice its place plus 1 and 2.
    """
    k = kept.shape[1]
    for row in range(values.shape[0]):
        heap = kept[row]
        for start in range(0, values.shape[1], _LOOK):
            part = values[row, start : start + _LOOK]
            least, larger = heap[0], 0
            for i in range(part.size):  # without a branch, so that the compiler can vectorise it
                larger += part[i] > least
            for i in range(part.size if larger else 0):
                value = part[i]
                if value <= heap[0]:
                    continue
                place, child = 0, 1
                while child < k:
                    if child + 1 < k and heap[child + 1] < heap[child]:
                        child += 1
                    if heap[child] >= value:
                        break
                    heap[place] = heap[child]
                    place, child = child, 2 * child + 1
                heap[place] = value


@compiled([types.void(given(types.uint16, 1), filled(types.int64, 1))])
def count_halves(halves: Any, count: Any) -> None:
    """Adds to `count` `[65536]` how often each float16 appears, by its bits; numpy takes four times as long."""
    for i in range(halves.size):
        count[halves[i]] += 1


@compiled([types.void(given(types.float64, 1), types.float64, filled(types.float64, 1))])
def cut_off(values: Any, most: float, cut: Any) -> None:
    """Writes the finite values, and `most` for those above it; `numpy.minimum` takes three times as long."""
    for i in range(values.size):
        cut[i] = most if values[i] > most else values[i]


@compiled([types.void(given(types.uint16, 1), filled(types.float64, 1))])
def widen(halves: Any, wide: Any) -> None:
    """Writes the finite numbers whose float16 bits are given; numpy takes ten times as long."""
    for i in range(halves.size):
        # A float32 with the same exponent and fraction is 2^112 times too small.
        size = np.float64(np.uint32((halves[i] & 0x7FFF) << 13).view(np.float32)) * 2.0**112
        wide[i] = -size if halves[i] >> 15 else size
