"""Bootstrap intervals of any statistic: slower than those made for one family of numbers, and with no exceptions.

`intervals` resamples the usual numbers all at once; here the statistic is called once for every resample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.resampling import Difference, Interval, check_resamples, difference_around, interval_around

Statistic = Callable[..., float]
Set = Sequence[npt.ArrayLike]
"""Arrays over the same examples, such as (logits, labels) or (scores,): they are resampled together."""


def bootstrap_interval_of(
    statistic: Statistic, *sets: Set, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Returns the confidence interval of `statistic(*arrays)`, made as `bootstrap_intervals` makes its own.

    For example `bootstrap_interval_of(tace, (logits, labels))`, or with two sets, which are resampled
    separately, `bootstrap_interval_of(aupr_out, (score_in,), (score_out,))`.

    Args:
      statistic: takes the arrays of all sets in their order and returns a number; called `resamples` times.
      sets: at least one; the arrays of a set have the same length N >= 1.
      resamples: at least 1.
      level: in (0, 1).
      seed: the result is a function of the arguments.

    Raises:
      InputError: an argument is out of its range, or arrays of a set differ in length.
    """
    arrays = _checked(sets)
    replicates = [statistic(*_taken(arrays, rows)) for rows in _resampled(arrays, resamples, seed)]
    return interval_around(float(statistic(*_flat(arrays))), np.array(replicates, np.float64), level)


def paired_bootstrap_difference_of(
    statistic: Statistic,
    sets_a: Sequence[Set],
    sets_b: Sequence[Set],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Returns the statistic of run a minus that of run b, with its interval; both are resampled at the same examples.

    Args:
      statistic: as for `bootstrap_interval_of`.
      sets_a: the sets of run a.
      sets_b: those of run b: the same examples in the same order.
      resamples: at least 1.
      level: in (0, 1).
      seed: the result is a function of the arguments.

    Raises:
      InputError: as `bootstrap_interval_of`, or the runs have different numbers of examples.
    """
    a, b = _checked(sets_a), _checked(sets_b)
    sizes_a, sizes_b = ([len(arrays[0]) for arrays in run] for run in (a, b))
    if sizes_a != sizes_b:
        raise InputError(f"the runs have {sizes_a} and {sizes_b} examples; expected the same sets for both")
    replicates = [statistic(*_taken(a, rows)) - statistic(*_taken(b, rows)) for rows in _resampled(a, resamples, seed)]
    measured = float(statistic(*_flat(a)) - statistic(*_flat(b)))
    return difference_around(measured, np.array(replicates, np.float64), level, np.inf)


Arrays = list[list[npt.NDArray[Any]]]


def _checked(sets: Sequence[Set]) -> Arrays:
    arrays = [[np.asarray(array) for array in one] for one in sets]
    if not arrays or not all(arrays):
        raise InputError("there is nothing to resample; expected at least one set of at least one array")
    for one in arrays:
        lengths = [np.shape(array)[:1] for array in one]
        if len(set(lengths)) != 1 or lengths[0] in ((), (0,)):
            shapes = ", ".join(str(list(array.shape)) for array in one)
            raise InputError(f"the arrays of a set have shapes {shapes}; expected one length, at least 1, for all")
    return arrays


def _resampled(arrays: Arrays, resamples: int, seed: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    """Yields for every resample the rows to take of each set."""
    check_resamples(resamples)
    generators = [np.random.default_rng([seed, place]) for place in range(len(arrays))]
    for _ in range(resamples):
        yield [rng.integers(0, len(one[0]), len(one[0])) for rng, one in zip(generators, arrays, strict=True)]


def _taken(arrays: Arrays, rows: Sequence[npt.NDArray[np.int64]]) -> list[npt.NDArray[Any]]:
    return [array[chosen] for one, chosen in zip(arrays, rows, strict=True) for array in one]


def _flat(arrays: Arrays) -> list[npt.NDArray[Any]]:
    return [array for one in arrays for array in one]
