"""Metrics of many bootstrap resamples of one run at once, and the noise floor.

After sorting by confidence, each bin is a contiguous range.  A resample is a row of counts, one for each example.
The formulas are those of the metrics, applied along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import bin_edges, check_confidences
from mixup_jax.metrics.calibration import equal_mass_cuts, tie_ends
from mixup_jax.metrics.resampling import check_resamples, row_counts
from mixup_jax.metrics.smooth import GRID, grid_shares, smooth_ece_of_grid
from mixup_jax.metrics.softmax import Bools, Floats, Ints, plain


@dataclass(frozen=True)
class SortedRun:
    """A run sorted by ascending confidence, `[N]` each; `order` holds the positions that the examples were given in."""

    order: Ints
    confidence: Floats
    correct: Bools
    losses: dict[str, Floats]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.order)

    @cached_property
    def in_order(self) -> bool:
        """Whether the examples were given in this order."""
        return bool((np.diff(self.order) == 1).all())

    @cached_property
    def last_of_ties(self) -> Ints:
        """The last position of each distinct confidence."""
        return tie_ends(self.confidence)[1:] - 1

    def starts(self, n_bins: int) -> Ints:
        """Returns the first position of each of the equally wide bins that is not empty."""
        inner = np.searchsorted(self.confidence, bin_edges(n_bins)[1:-1], side="right")
        starts = np.unique(np.concatenate([[0], inner]))
        return starts[starts < self.n]


def sorted_run(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, losses: Mapping[str, npt.ArrayLike] | None = None
) -> SortedRun:
    """Returns a run in ascending confidence after checking it."""
    confidences, outcomes = check_confidences(confidence, correct)
    if len(confidences) == 0:
        raise InputError("confidence holds no examples; expected at least one")
    checked = {name: _checked_loss(name, loss, len(confidences)) for name, loss in (losses or {}).items()}
    order = np.lexsort((*checked.values(), outcomes, confidences))
    return SortedRun(
        order=order,
        confidence=confidences[order],
        correct=outcomes[order],
        losses={name: loss[order] for name, loss in checked.items()},
    )


def _checked_loss(name: str, loss: npt.ArrayLike, n: int) -> Floats:
    values = np.asarray(loss, np.float64)
    if values.shape != (n,):
        raise InputError(f"loss {name} has shape {list(values.shape)}; expected [{n}], one for each example")
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values)))
        raise InputError(f"loss {name} is {values[first]} for example {first}; expected finite numbers")
    return values


class Resamples:
    """Some resamples of a run, and the sums from which replicates are computed.

    Attributes:
      run: the run.
      weights: int64 `[R, N]`, how often each example (in ascending confidence) occurs in each resample.
    """

    def __init__(self, run: SortedRun, counts: Ints) -> None:
        """Takes how often each example occurs in each resample, `[R, N]`, with the examples in their given order."""
        self.run = run
        self.weights = plain(counts if run.in_order else counts[:, run.order], np.int64)
        self._sums: dict[int, tuple[Ints, Floats, Ints]] = {}

    def sums(self, n_bins: int) -> tuple[Ints, Floats, Ints]:
        """Returns count, sum of confidence and number correct of each non-empty bin, `[R, bins]` each."""
        from mixup_jax.metrics.compiled_resamples import weighted_counts

        if n_bins not in self._sums:
            starts = self.run.starts(n_bins)
            count, correct = np.empty((2, len(self.weights), len(starts)), np.int64)
            weighted_counts(self.weights, plain(self.run.correct, np.bool_), starts, count, correct)
            self._sums[n_bins] = count, self.sums_of(self.run.confidence, starts), correct
        return self._sums[n_bins]

    def sums_of(self, values: Floats, starts: Ints) -> Floats:
        """Returns the sums of numbers of the examples over ranges of examples that begin at `starts`, `[R, ranges]`."""
        from mixup_jax.metrics.compiled_resamples import weighted_sums

        sums = np.empty((len(self.weights), len(starts)))
        weighted_sums(self.weights, plain(values, np.float64), starts, sums)
        return sums


Replicates = Callable[[Resamples, int], Floats]
"""A function of resamples and a number of bins (unused by some) that returns one number for each resample, `[R]`."""


def of_bins(formula: Callable[..., Floats]) -> Replicates:
    """Returns the replicates of a formula that takes count, confidence sum and number correct of equally wide bins."""
    return lambda resamples, n_bins: formula(*resamples.sums(n_bins))


def with_bins(replicates: Replicates, n_bins: int | None) -> Callable[[Resamples], Floats]:
    """Returns the replicates for a fixed number of bins."""
    return lambda resamples: replicates(resamples, n_bins or 0)


def accuracy_replicates(resamples: Resamples, n_bins: int) -> Floats:
    """Returns the replicates of the accuracy."""
    _, _, correct = resamples.sums(1)
    return np.asarray(correct[:, 0] / resamples.run.n, np.float64)


def gap_replicates(resamples: Resamples, n_bins: int) -> Floats:
    """Returns the replicates of mean confidence minus accuracy."""
    _, confidence, correct = resamples.sums(1)
    return np.asarray((confidence - correct)[:, 0] / resamples.run.n, np.float64)


def adaptive_replicates(resamples: Resamples, n_bins: int) -> Floats:
    """Returns the replicates of `adaptive_ece`: each resample gets bins of equal mass of its own."""
    run, nothing = resamples.run, np.zeros((len(resamples.weights), 1), np.int64)
    examples, residual = (
        np.concatenate([nothing, part.cumsum(axis=1)[:, run.last_of_ties]], axis=1)
        for part in (resamples.weights, resamples.weights * (run.correct - run.confidence))
    )
    gaps = [np.diff(row[equal_mass_cuts(ends, n_bins)]) for ends, row in zip(examples, residual, strict=True)]
    return np.array([np.abs(gap).sum() for gap in gaps]) / run.n


def smooth_replicates(resamples: Resamples, n_bins: int) -> Floats:
    """Returns the replicates of `smooth_ece`."""
    run, weights = resamples.run, resamples.weights
    left, share, residual = grid_shares(run.confidence, run.correct)
    points, starts = np.unique(left, return_index=True)
    grid = np.zeros((len(weights), GRID + 1))
    grid[:, points] = np.add.reduceat(weights * (residual * (1.0 - share)), starts, axis=1)
    grid[:, points + 1] += np.add.reduceat(weights * (residual * share), starts, axis=1)
    return smooth_ece_of_grid(grid / run.n)


class NoiseFloor(NamedTuple):
    """Mean and 95th percentile of the ECE that a perfectly calibrated network would have."""

    mean: float
    p95: float


def noise_floor(confidence: npt.ArrayLike, n_bins: int = 15, *, resamples: int = 200, seed: int = 0) -> NoiseFloor:
    """Returns the ECE that a perfectly calibrated network with these confidences would show by chance.

    Each prediction is redrawn `resamples` times: it is correct with a probability equal to its confidence.
    For large bins the mean is near `sqrt(2 / pi) sum_m n_m/n sqrt(mean_m(p (1 - p)) / n_m)`.  An ECE
    below `p95` is no evidence of miscalibration.
    """
    run = sorted_run(confidence, np.zeros(np.shape(confidence), bool))
    return _floor(run, _gaps_of_ranges(run, run.starts(n_bins)), resamples, seed)


def adaptive_noise_floor(
    confidence: npt.ArrayLike, n_bins: int = 15, *, resamples: int = 200, seed: int = 0
) -> NoiseFloor:
    """Returns the `noise_floor` of `adaptive_ece`."""
    run = sorted_run(confidence, np.zeros(np.shape(confidence), bool))
    ends = tie_ends(run.confidence)
    return _floor(run, _gaps_of_ranges(run, ends[equal_mass_cuts(ends, n_bins)][:-1]), resamples, seed)


def smooth_noise_floor(confidence: npt.ArrayLike, *, resamples: int = 200, seed: int = 0) -> NoiseFloor:
    """Returns the `noise_floor` of `smooth_ece`."""
    run = sorted_run(confidence, np.zeros(np.shape(confidence), bool))
    left, share, _ = grid_shares(run.confidence, run.correct)
    points, starts = np.unique(left, return_index=True)

    def smoothed(correct: Floats) -> Floats:
        residual, grid = correct - run.confidence, np.zeros((len(correct), GRID + 1))
        grid[:, points] = np.add.reduceat(residual * (1.0 - share), starts, axis=1)
        grid[:, points + 1] += np.add.reduceat(residual * share, starts, axis=1)
        return smooth_ece_of_grid(grid / run.n)

    return _floor(run, smoothed, resamples, seed)


def _gaps_of_ranges(run: SortedRun, starts: Ints) -> Callable[[Floats], Floats]:
    """Returns the ECE over bins that begin at `starts`, as a function of correctness `[R, N]`."""
    confidence_sum = np.add.reduceat(run.confidence, starts)
    return lambda correct: np.abs(np.add.reduceat(correct, starts, axis=1) - confidence_sum).sum(axis=1) / run.n


def _floor(run: SortedRun, statistic: Callable[[Floats], Floats], resamples: int, seed: int) -> NoiseFloor:
    check_resamples(resamples)
    rng = np.random.default_rng(seed)
    floors = []
    for rows in row_counts(run.n, resamples):
        correct = (rng.random((rows, run.n)) < run.confidence).astype(np.float64)
        floors.append(statistic(correct))
    replicates = np.concatenate(floors)
    return NoiseFloor(mean=float(replicates.mean()), p95=float(np.quantile(replicates, 0.95)))
