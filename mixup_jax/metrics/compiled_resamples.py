"""The compiled loops over bootstrap resamples: how often each example occurs, and sums over the occurrences."""

from __future__ import annotations

from typing import Any

from numba import types

from mixup_jax.metrics.compiling import compiled, filled, given

_WEIGHTS, _COUNTS = given(types.int64, 2), filled(types.int64, 2)


@compiled([types.void(_WEIGHTS, _COUNTS)])
def count_draws(drawn: Any, counts: Any) -> None:
    """Adds to `counts[r, i]` how often example i was drawn in resample r."""
    for r in range(drawn.shape[0]):
        for i in range(drawn.shape[1]):
            counts[r, drawn[r, i]] += 1


@compiled(
    [types.void(_WEIGHTS, given(types.float64, 1), given(types.int64, 1), filled(types.float64, 2))],
    fastmath=frozenset({"reassoc"}),
)
def weighted_sums(weights: Any, values: Any, starts: Any, sums: Any) -> None:
    """Writes the sums of `weights[r, i] * values[i]` over ranges of examples, which begin at `starts`."""
    n = weights.shape[1]
    for r in range(weights.shape[0]):
        for part in range(starts.size):
            total = 0.0
            for i in range(starts[part], starts[part + 1] if part + 1 < starts.size else n):
                total += weights[r, i] * values[i]
            sums[r, part] = total


@compiled([types.void(_WEIGHTS, given(types.boolean, 1), given(types.int64, 1), _COUNTS, _COUNTS)])
def weighted_counts(weights: Any, correct: Any, starts: Any, counts: Any, right: Any) -> None:
    """Writes the number of occurrences, and of those that are right, in the ranges of `weighted_sums`."""
    n = weights.shape[1]
    for r in range(weights.shape[0]):
        for part in range(starts.size):
            total = of_right = 0
            for i in range(starts[part], starts[part + 1] if part + 1 < starts.size else n):
                total += weights[r, i]
                of_right += weights[r, i] if correct[i] else 0
            counts[r, part], right[r, part] = total, of_right
