"""Bootstrap resamples of a test set, and intervals from the replicates of a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mixup_jax.errors import InputError
from mixup_jax.metrics.scores import Floats, Ints

CHUNK = 1 << 18  # examples resampled at a time: a few megabytes, whatever the size of the set


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two runs, first minus second, and the ends of its confidence interval."""

    difference: float
    low: float
    high: float


def check_resamples(resamples: int) -> None:
    """Raises InputError unless there is at least one resample."""
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; expected at least 1")


def row_counts(n: int, resamples: int, rows: int | None = None) -> Iterator[int]:
    """Yields how many resamples of n examples to work on at a time, `resamples` in all."""
    rows = rows or max(1, CHUNK // n)
    return (min(rows, resamples - first) for first in range(0, resamples, rows))


def resample_counts(n: int, resamples: int, seed: int | list[int], rows: int | None = None) -> Iterator[Ints]:
    """Yields how often each of n examples occurs in each resample, int64 `[rows, n]` at a time."""
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    for now in row_counts(n, resamples, rows):
        drawn = rng.integers(0, n, size=(now, n)) + n * np.arange(now)[:, None]
        yield np.bincount(drawn.ravel(), minlength=now * n).reshape(now, n)


def gathered(parts: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    """Returns the replicates of each number from those of each chunk."""
    chunks = list(parts)
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def interval_around(
    measured: float, replicates: Floats, level: float, lowest: float = -np.inf, highest: float = np.inf
) -> Interval:
    """Returns the percentile interval, moved by the estimate of bias, within [lowest, highest]; it holds `measured`."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    bias = float(replicates.mean()) - measured
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2]) - bias
    # At a low level a lopsided distribution may leave the measured value outside, and so may rounding.
    return Interval(min(max(float(low), lowest), measured), max(min(float(high), highest), measured))


def difference_around(measured: float, replicates: Floats, level: float, furthest: float = 1.0) -> Difference:
    """Returns a difference of two runs with its interval, within [-furthest, furthest]."""
    return Difference(measured, *interval_around(measured, replicates, level, -furthest, furthest))
