"""The compiled loops over bootstrap resamples: which examples are drawn, how often, and sums over the occurrences."""

from typing import Any

import numba
import numpy as np
from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

_RAW, _BYTES, _PLACES = given(types.uint64, 1), types.uint8, given(types.int64, 1)
_BLOCK = 2048  # examples whose weights and values stay in the first-level cache


@compiled([types.int64(_RAW, types.uint64, filled(types.uint32, 1))])
def draw_below(raw: Any, n: Any, drawn: Any) -> int:
    """Writes whole numbers below n made of raw random numbers, and returns how many there are, at most two of each.

    By Lemire's multiplication (2019, arXiv:1805.10941) of 32 bits, the lower ones first, as numpy's `integers` does.
    """
    half, lower = np.uint64(32), np.uint64(0xFFFFFFFF)
    least, size = np.uint64(1 << 32) % n, 0
    for i in range(raw.size):
        for bits in (raw[i] & lower, raw[i] >> half):
            product = bits * n
            drawn[size] = product >> half
            size += (product & lower) >= least
    return size


@compiled([types.void(given(types.uint32, 1), filled(_BYTES, 1))])
def count_draws(drawn: Any, counts: Any) -> None:
    """Adds to `counts[i]` how often example i was drawn."""
    for i in range(drawn.size):
        counts[drawn[i]] += np.uint8(1)


@numba.njit
def end_of(place: int, starts: Any, n: int) -> int:
    """Returns where a range of n examples ends, given where each begins."""
    return int(starts[place + 1]) if place + 1 < starts.size else n


@numba.njit(fastmath={"reassoc"})
def dot(one: Any, other: Any) -> float:
    """Returns the sum of the products, made in any order."""
    total = 0.0
    for i in range(one.size):
        total += one[i] * other[i]
    return total


@compiled(
    [types.void(given(_BYTES, 2), given(types.float64, 2), _PLACES, types.int64, types.int64, filled(types.float64, 3))]
)
def weighted_sums(weights: Any, values: Any, starts: Any, first: int, last: int, sums: Any) -> None:
    """Writes sums over ranges of examples, from range `first` to before `last`; the ranges begin at `starts`.

    `sums[r, 0]` are those of `weights[r, i]`, `sums[r, v + 1]` those of `weights[r, i] * values[v, i]`.
    """
    block, ones = np.empty(_BLOCK), np.ones(_BLOCK)
    for part in range(first, last):
        end = end_of(part, starts, weights.shape[1])
        sums[:, :, part] = 0.0
        for start in range(starts[part], end, _BLOCK):
            stop = min(start + _BLOCK, end)
            weight = block[: stop - start]
            for r in range(weights.shape[0]):
                given = weights[r, start:stop]
                for i in range(weight.size):
                    weight[i] = given[i]
                sums[r, 0, part] += dot(weight, ones)
                for v in range(values.shape[0]):
                    sums[r, v + 1, part] += dot(weight, values[v, start:stop])


@compiled([types.void(_RAW, given(types.float64, 1), types.int64, _PLACES, filled(types.int64, 1))])
def count_below(raw: Any, confidence: Any, first: int, starts: Any, below: Any) -> None:
    """Adds to each range of examples how many of the raw random numbers, as numpy's in [0, 1), are below confidences.

    Number i belongs to example `first + i`; the ranges begin at `starts`.
    """
    unit, eleven, end = 1.0 / (1 << 53), np.uint64(11), first + raw.size
    for part in range(starts.size):
        found = 0
        for i in range(max(starts[part], first), min(end_of(part, starts, confidence.size), end)):
            found += np.float64(raw[i - first] >> eleven) * unit < confidence[i]
        below[part] += found
