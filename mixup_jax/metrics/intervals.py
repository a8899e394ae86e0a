"""How far a number measured on a finite test set may be trusted.

Two different questions: how much would the number move with another test set (bootstrap intervals),
and how large would it be if the network were perfectly calibrated (the noise floor).  ECE is a sum of
absolute values, so chance alone makes it positive, the more so the more bins there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.calibration import bin_edges, bin_index, check_confidences
from mixup_jax.metrics.ood import check_scores
from mixup_jax.metrics.scores import Bools, Floats, Ints

_CHUNK = 1 << 18  # examples resampled at a time: a few megabytes, whatever the size of the set


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A difference of two runs, first minus second, and the ends of its confidence interval."""

    difference: float
    low: float
    high: float


class NoiseFloor(NamedTuple):
    """What a perfectly calibrated network would score: the mean and the 95th percentile."""

    mean: float
    p95: float


def bootstrap_intervals(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    n_bins: Sequence[int] = (15, 100),
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns a confidence interval for accuracy, and for ECE and OE at each number of bins.

    Nonparametric bootstrap (Efron & Tibshirani, 1993): the examples are drawn again with replacement,
    `resamples` times, and the same resamples serve every number.  The interval spans the percentiles
    (1 - level)/2 and (1 + level)/2 of the replicates, moved by the bootstrap's estimate of bias (mean of
    the replicates minus the value measured).  Without that move the interval of ECE lies too high,
    often above the measured value itself, because resampling adds noise to noise.  It covers what
    test sets of this size give on average; compare it with `noise_floor`, not with zero.

    Args:
      confidence: `[N]` in [0, 1], N >= 1.
      correct: bool `[N]`.
      n_bins: bin counts M, each >= 1.
      resamples: at least 1.
      level: in (0, 1).
      seed: the result is a function of the arguments and does not depend on the order of examples.

    Returns:
      `{"accuracy": .., "ece_15": .., "oe_15": .., ..}`, within [0, 1], each containing the value measured.

    Raises:
      InputError: an argument is out of its range.
    """
    confidences, outcomes = check_confidences(confidence, correct)
    # Resampling positions of the sorted set makes the result independent of the order of examples.
    order = np.lexsort((outcomes, confidences))
    run = _sorted_run(confidences[order], outcomes[order], n_bins)
    measured = _statistics(run, np.ones((1, run.n), np.int64))
    replicates = _gathered(_statistics(run, counts) for counts in _resample_counts(run.n, resamples, seed))
    intervals = {name: _interval(float(measured[name][0]), replicates[name], level) for name in measured}
    return {name: Interval(max(low, 0.0), min(high, 1.0)) for name, (low, high) in intervals.items()}


def paired_bootstrap_differences(
    confidence_a: npt.ArrayLike,
    correct_a: npt.ArrayLike,
    confidence_b: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    n_bins: Sequence[int] = (15,),
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Returns accuracy, ECE and OE of run a minus those of run b on the same test set, with intervals.

    Both runs are resampled at the same examples, so what is hard for both cancels; the interval is made
    as in `bootstrap_intervals`.  It knows the spread of the test set, not that of training seeds.

    Args:
      confidence_a: `[N]` in [0, 1], N >= 1.
      correct_a: bool `[N]`.
      confidence_b: `[N]`, of the same examples in the same order.
      correct_b: bool `[N]`.
      n_bins: bin counts M, each >= 1.
      resamples: at least 1.
      level: in (0, 1).
      seed: the result is a function of the arguments.

    Returns:
      `{"accuracy": .., "ece_15": .., "oe_15": ..}`, each within [-1, 1].

    Raises:
      InputError: an argument is out of its range, or the runs differ in length.
    """
    run_a, run_b = _sorted_run(confidence_a, correct_a, n_bins), _sorted_run(confidence_b, correct_b, n_bins)
    if run_a.n != run_b.n:
        raise InputError(f"the runs have {run_a.n} and {run_b.n} examples; expected the same test set for both")
    once = np.ones((1, run_a.n), np.int64)
    measured = _subtracted(_statistics(run_a, once), _statistics(run_b, once))
    replicates = _gathered(
        _subtracted(_statistics(run_a, counts), _statistics(run_b, counts))
        for counts in _resample_counts(run_a.n, resamples, seed)
    )
    return {name: _difference(float(measured[name][0]), replicates[name], level) for name in measured}


def paired_bootstrap_auroc_difference(
    score_in_a: npt.ArrayLike,
    score_out_a: npt.ArrayLike,
    score_in_b: npt.ArrayLike,
    score_out_b: npt.ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Returns AUROC of run a minus that of run b on the same two data sets, with its interval.

    In-distribution and OOD examples are resampled separately, both runs at the same ones.

    Args:
      score_in_a: `[N]`, N >= 1, OOD scores (higher = more OOD) of in-distribution examples.
      score_out_a: `[M]`, M >= 1, scores of OOD examples.
      score_in_b: `[N]`, of the same examples in the same order.
      score_out_b: `[M]`, likewise.
      resamples: at least 1.
      level: in (0, 1).
      seed: the result is a function of the arguments.

    Raises:
      InputError: a set is empty, holds NaN, or differs in length between the runs.
    """
    inside_a, outside_a = check_scores("score_in_a", score_in_a), check_scores("score_out_a", score_out_a)
    inside_b, outside_b = check_scores("score_in_b", score_in_b), check_scores("score_out_b", score_out_b)
    sizes_a, sizes_b = (len(inside_a), len(outside_a)), (len(inside_b), len(outside_b))
    if sizes_a != sizes_b:
        raise InputError(
            f"the runs have {sizes_a} and {sizes_b} scores (in, out); expected the same data sets for both"
        )

    def difference(counts_in: Ints, counts_out: Ints) -> Floats:
        return _auroc(inside_a, outside_a, counts_in, counts_out) - _auroc(inside_b, outside_b, counts_in, counts_out)

    measured = difference(*(np.ones((1, size), np.int64) for size in sizes_a))
    rows = max(1, _CHUNK // max(sizes_a))
    resampled = (_resample_counts(size, resamples, [seed, half], rows) for half, size in enumerate(sizes_a))
    replicates = np.concatenate([difference(*pair) for pair in zip(*resampled, strict=True)])
    return _difference(float(measured[0]), replicates, level)


def noise_floor(confidence: npt.ArrayLike, n_bins: int = 15, *, resamples: int = 200, seed: int = 0) -> NoiseFloor:
    """Returns the ECE that a perfectly calibrated network with these confidences would show by chance.

    Each prediction is redrawn as correct with its own confidence as the probability, `resamples` times.
    For large bins the mean is near `sqrt(2 / pi) sum_m n_m/n sqrt(mean_m(p (1 - p)) / n_m)`.  An ECE
    below `p95` is no evidence of miscalibration.

    Args:
      confidence: `[N]` in [0, 1], N >= 1.
      n_bins: M >= 1.
      resamples: at least 1.
      seed: the result is a function of the arguments and does not depend on the order of examples.

    Raises:
      InputError: an argument is out of its range.
    """
    run = _sorted_run(confidence, np.zeros(np.shape(confidence), bool), [n_bins])
    _check_resamples(resamples)
    starts = run.starts[n_bins]
    confidence_sum = np.add.reduceat(run.confidence, starts)
    rng = np.random.default_rng(seed)
    floors = []
    for rows in _row_counts(run.n, resamples):
        correct = (rng.random((rows, run.n)) < run.confidence).astype(np.float64)
        floors.append(np.abs(np.add.reduceat(correct, starts, axis=1) - confidence_sum).sum(axis=1) / run.n)
    replicates = np.concatenate(floors)
    return NoiseFloor(mean=float(replicates.mean()), p95=float(np.quantile(replicates, 0.95)))


@dataclass(frozen=True)
class _SortedRun:
    """A run in ascending confidence: each bin, of any bin count, is then one contiguous stretch."""

    order: Ints
    confidence: Floats
    correct: Bools
    starts: dict[int, Ints]  # number of bins -> first position of each non-empty bin

    @property
    def n(self) -> int:
        return len(self.order)


def _sorted_run(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: Sequence[int]) -> _SortedRun:
    confidences, outcomes = check_confidences(confidence, correct)
    if len(confidences) == 0:
        raise InputError("confidence holds no examples; expected at least one")
    order = np.lexsort((outcomes, confidences))
    ascending = confidences[order]
    starts = {bins: np.unique(bin_index(ascending, bin_edges(bins)), return_index=True)[1] for bins in n_bins}
    return _SortedRun(order, ascending, outcomes[order], starts)


def _statistics(run: _SortedRun, counts: Ints) -> dict[str, Floats]:
    """Returns accuracy, ECE and OE (`[R]` each) when example i occurs `counts[r, i]` times."""
    weights = counts[:, run.order]
    confidence, correct = weights * run.confidence, weights * run.correct
    statistics: dict[str, Floats] = {"accuracy": correct.sum(axis=1) / run.n}
    for bins, starts in run.starts.items():
        count, confidence_sum, correct_sum = (
            np.add.reduceat(part, starts, axis=1) for part in (weights, confidence, correct)
        )
        gap = confidence_sum - correct_sum
        mean_confidence = confidence_sum / np.maximum(count, 1)
        statistics[f"ece_{bins}"] = np.abs(gap).sum(axis=1) / run.n
        statistics[f"oe_{bins}"] = (mean_confidence * np.maximum(gap, 0.0)).sum(axis=1) / run.n
    return statistics


def _auroc(score_in: Floats, score_out: Floats, counts_in: Ints, counts_out: Ints) -> Floats:
    order = np.argsort(score_in)
    positions = [np.searchsorted(score_in[order], score_out, side=side) for side in ("left", "right")]
    below = np.concatenate([np.zeros((len(counts_in), 1), np.int64), counts_in[:, order].cumsum(axis=1)], axis=1)
    pairs = (counts_out * (below[:, positions[0]] + below[:, positions[1]])).sum(axis=1)
    area: Floats = pairs / (2 * len(score_in) * len(score_out))
    return area


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; expected at least 1")


def _row_counts(n: int, resamples: int, rows: int | None = None) -> Iterator[int]:
    rows = rows or max(1, _CHUNK // n)
    return (min(rows, resamples - first) for first in range(0, resamples, rows))


def _resample_counts(n: int, resamples: int, seed: int | list[int], rows: int | None = None) -> Iterator[Ints]:
    """Yields how often each of n examples occurs in each resample, int64 `[rows, n]` at a time."""
    _check_resamples(resamples)
    rng = np.random.default_rng(seed)
    for now in _row_counts(n, resamples, rows):
        drawn = rng.integers(0, n, size=(now, n)) + n * np.arange(now)[:, None]
        yield np.bincount(drawn.ravel(), minlength=now * n).reshape(now, n)


def _gathered(parts: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    chunks = list(parts)
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _subtracted(a: dict[str, Floats], b: dict[str, Floats]) -> dict[str, Floats]:
    return {name: a[name] - b[name] for name in a}


def _interval(measured: float, replicates: Floats, level: float) -> Interval:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    bias = float(replicates.mean()) - measured
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2]) - bias
    # At a low level a lopsided distribution may leave the measured value outside, and so may rounding.
    return Interval(min(float(low), measured), max(float(high), measured))


def _difference(measured: float, replicates: Floats, level: float) -> Difference:
    low, high = _interval(measured, replicates, level)
    return Difference(measured, max(low, -1.0), min(high, 1.0))
