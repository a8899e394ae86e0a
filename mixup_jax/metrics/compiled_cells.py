"""The loops behind equally wide bins: where confidences belong, and sums of those that belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

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

    Examples take the lanes in turn, since adding to what was added to just before means to wait for it.  There must be
    a power of two of them.  Returns whether all confidences are in [0, 1].
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
