"""Bootstrap resamples of a test set, and intervals from the replicates of a number.

The module `intervals` computes the usual numbers of many resamples at once.  `bootstrap_interval_of` accepts any
statistic, but calls it once for every resample, which is slower.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.softmax import Floats

CHUNK = 1 << 18  # examples resampled at a time: a few megabytes, whatever the size of the set
PAIR_CHUNK = CHUNK // 4  # of two runs; smaller arrays stay in the cache, which took a third to a half of the time off
FEWEST_ROWS = 8  # resamples at a time, however many examples: they share one reading of the values
_RAW = 1 << 15  # random numbers of 64 bits that a thread makes at a time
Counts = npt.NDArray[np.integer]
Drawn = npt.NDArray[np.uint32]


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
    """Yields how many resamples of n examples to compute at a time; they add up to `resamples`."""
    rows = rows or max(1, CHUNK // n)
    return (min(rows, resamples - first) for first in range(0, resamples, rows))


def resample_counts(n: int, resamples: int, seed: int | list[int], rows: int | None = None) -> Iterator[Counts]:
    """Yields how often each of n examples occurs in each resample, uint8 `[rows, n]` at a time.

    An example that is drawn 256 times or more, which has a probability below 1e-500, is counted wrongly.
    """
    from mixup_jax.metrics.compiled_resamples import count_draws

    check_resamples(resamples)
    draws = _Draws(n, seed)
    for now in row_counts(n, resamples, rows or max(FEWEST_ROWS, CHUNK // n)):
        drawn, counts = draws.next(now * n), np.zeros((now, n), np.uint8)

        def count(some: slice, drawn: list[Drawn] = drawn, counts: Counts = counts) -> None:
            for row in range(some.start, some.stop):
                for part in _between(drawn, row * n, (row + 1) * n):
                    count_draws(part, counts[row])

        in_threads(count, list(rows_of(now, max(1, 2 * _RAW // n))))
        yield counts


def _between(parts: Sequence[Drawn], first: int, last: int) -> Iterator[Drawn]:
    """Yields what a range of numbers has in each of the parts that follow each other."""
    for part in parts:
        if first < len(part) and last > 0:
            yield part[max(first, 0) : last]
        first, last = first - len(part), last - len(part)


class _Draws:
    """The numbers of `numpy.random.default_rng(seed).integers(0, n, ..)`, made in several threads."""

    def __init__(self, n: int, seed: int | list[int]) -> None:
        self.n, self.seed, self.place = n, seed, 0
        self.spare: list[Drawn] = []

    def next(self, wanted: int) -> list[Drawn]:
        """Returns the next numbers in parts that follow each other; after those that were wanted there may be more."""
        parts = self.spare
        while (missing := wanted - sum(map(len, parts))) > 0:
            raw = missing // 2 + 1
            parts = parts + in_threads(self._made, list(rows_of(raw, _RAW)))
            self.place += raw
        self.spare = list(_between(parts, wanted, sum(map(len, parts))))
        return parts

    def _made(self, part: slice) -> Drawn:
        from mixup_jax.metrics.compiled_resamples import draw_below

        raw = raw_numbers(self.seed, self.place + part.start).random_raw(part.stop - part.start)
        drawn = np.empty(2 * len(raw), np.uint32)
        return drawn[: draw_below(raw, self.n, drawn)]


def raw_numbers(seed: int | list[int], first: int) -> np.random.PCG64:
    """Returns what makes the 64-bit numbers that `numpy.random.default_rng(seed)` uses, from a place on."""
    numbers = np.random.PCG64(seed)
    numbers.advance(first)
    return numbers


def gathered(parts: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    """Returns the replicates of each number, joined over the chunks."""
    chunks = list(parts)
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def wilson_interval(hits: int, n: int, level: float = 0.95) -> Interval:
    """Returns Wilson's interval (1927) of a binomial share, given `hits` among n; its length is above 0 at 0 and 1 too.

    Of shares from 0.5 to 0.99 of 300 examples an interval of 95 % holds 93 to 98 % (the exact one of Clopper and
    Pearson, which is longer, 95 to 99 %), and nearer to 1 at least 90 %.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    z_squared, share = NormalDist().inv_cdf((1 + level) / 2) ** 2, hits / n
    centre = (share + z_squared / (2 * n)) / (1 + z_squared / n)
    reach = (z_squared * (share * (1 - share) / n + z_squared / (4 * n * n))) ** 0.5 / (1 + z_squared / n)
    low, high = (centre - reach if hits else 0.0), (centre + reach if hits < n else 1.0)
    return Interval(min(low, share), max(high, share))


def no_difference(n: int, level: float) -> Difference:
    """Returns the difference 0 of two shares of n pairs of which none differs, with Tango's interval (1998).

    Every resample has the difference 0 as well, so that a bootstrap would be sure of it after a single pair.
    """
    reach = 1.0 - wilson_interval(n, n, level).low
    return Difference(0.0, -reach, reach)


def interval_around(
    measured: float, replicates: Floats, level: float, lowest: float = -np.inf, highest: float = np.inf
) -> Interval:
    """Returns the bias-corrected percentile interval, within [lowest, highest]; it contains `measured`."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    bias = float(replicates.mean()) - measured
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2]) - bias
    # A low level with a skewed distribution, or rounding, could leave the measured value outside.
    return Interval(min(max(float(low), lowest), measured), max(min(float(high), highest), measured))


def difference_around(measured: float, replicates: Floats, level: float, furthest: float = 1.0) -> Difference:
    """Returns a difference of two runs with its interval, within [-furthest, furthest]."""
    return Difference(measured, *interval_around(measured, replicates, level, -furthest, furthest))


Statistic = Callable[..., float]
Set = Sequence[npt.ArrayLike]
"""Arrays over the same examples, such as (logits, labels) or (scores,): they are resampled together."""


def bootstrap_interval_of(
    statistic: Statistic, *sets: Set, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Returns the confidence interval of `statistic(*arrays)`, by the method of `bootstrap_intervals`.

    For example `bootstrap_interval_of(tace, (logits, labels))`.  Two sets are resampled separately, as in
    `bootstrap_interval_of(aupr_out, (score_in,), (score_out,))`.

    `statistic` takes the arrays of all sets in their order and returns a number; it is called `resamples` times.  The
    arrays of a set have the same length.
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
    """Returns the statistic of run a minus that of run b, with its interval; both use the same resamples.

    The sets of run b hold the same examples in the same order.
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
    """Yields, for every resample, the rows to take from each set."""
    check_resamples(resamples)
    generators = [np.random.default_rng([seed, place]) for place in range(len(arrays))]
    for _ in range(resamples):
        yield [rng.integers(0, len(one[0]), len(one[0])) for rng, one in zip(generators, arrays, strict=True)]


def _taken(arrays: Arrays, rows: Sequence[npt.NDArray[np.int64]]) -> list[npt.NDArray[Any]]:
    return [array[chosen] for one, chosen in zip(arrays, rows, strict=True) for array in one]


def _flat(arrays: Arrays) -> list[npt.NDArray[Any]]:
    return [array for one in arrays for array in one]
