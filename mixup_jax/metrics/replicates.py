"""Metrics of many bootstrap resamples of one run at once, and the noise floor.

After sorting by confidence, each bin is a contiguous range.  A resample is a row of counts, one for each example.
The formulas are those of the metrics, applied along the last axis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import bin_edges, check_confidences
from mixup_jax.metrics.calibration import equal_mass_cuts, tie_ends
from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.resampling import CHUNK, Counts, check_resamples, raw_numbers, row_counts
from mixup_jax.metrics.smooth import GRID, grid_shares, smooth_ece_of_grid
from mixup_jax.metrics.softmax import Bools, Floats, Ints, plain

USUAL_BINS = (15, 100)  # other numbers of bins take another pass over the weights
CUT = 1 << 13  # examples that a thread sums up at a time


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

    @cached_property
    def values(self) -> Floats:
        """Confidence, correctness and the losses, `[2 + losses, N]`."""
        return np.stack([self.confidence, self.correct, *self.losses.values()])

    @cached_property
    def cuts(self) -> Ints:
        """The starts of ranges of which every equally wide bin of the usual numbers of bins consists, ascending."""
        return np.unique(np.concatenate([np.arange(0, self.n, CUT), *map(self.starts, USUAL_BINS)]))

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
    order = _ascending(confidences, outcomes, list(checked.values()))
    return SortedRun(
        order=order,
        confidence=confidences[order],
        correct=outcomes[order],
        losses={name: loss[order] for name, loss in checked.items()},
    )


def _ascending(confidence: Floats, correct: Bools, losses: Sequence[Floats]) -> Ints:
    """Returns the order of ascending confidence, of equal ones by the other numbers, and then as given."""
    order = np.argsort(confidence)
    ascending = confidence[order]
    tied = np.zeros(len(order), bool)
    tied[:-1] = ascending[1:] == ascending[:-1]
    tied[1:] |= tied[:-1]
    if tied.any():
        some = np.sort(order[tied])
        order[tied] = some[np.lexsort((*(loss[some] for loss in losses), correct[some], confidence[some]))]
    return order


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
      weights: uint8 `[R, N]`, how often each example (in ascending confidence) occurs in each resample.
    """

    def __init__(self, run: SortedRun, counts: Counts) -> None:
        """Takes how often each example occurs in each resample, `[R, N]`, with the examples in their given order."""
        self.run = run
        self.weights = plain(counts if run.in_order else counts[:, run.order], np.uint8)

    @cached_property
    def _sums(self) -> Floats:
        """Sums of the weights and the weighted `run.values` over ranges that begin at `run.cuts`, `[R, .., ranges]`."""
        return self._sums_from(self.run.cuts)

    def _sums_from(self, starts: Ints) -> Floats:
        from mixup_jax.metrics.compiled_resamples import weighted_sums

        values = self.run.values
        sums = np.empty((len(self.weights), 1 + len(values), len(starts)))

        def work(rows: slice) -> None:
            first, last = np.searchsorted(starts, [rows.start, rows.stop])
            weighted_sums(self.weights, values, starts, first, last, sums)

        in_threads(work, list(rows_of(self.run.n, CUT)))
        return sums

    def sums(self, n_bins: int) -> tuple[Ints, Floats, Ints]:
        """Returns count, sum of confidence and number correct of each non-empty bin, `[R, bins]` each."""
        starts = self.run.starts(n_bins)
        known = bool(np.isin(starts, self.run.cuts).all())
        cuts = self.run.cuts if known else np.union1d(self.run.cuts, starts)
        sums = self._sums if known else self._sums_from(cuts)
        of_bins = np.add.reduceat(sums[:, :3], np.searchsorted(cuts, starts), axis=2)
        count, confidence, correct = of_bins.transpose(1, 0, 2)
        return count.astype(np.int64), confidence, correct.astype(np.int64)

    def means(self) -> dict[str, Floats]:
        """Returns the mean of each loss, `[R]`."""
        means = self._sums[:, 3:].sum(axis=2) / self.run.n
        return dict(zip(self.run.losses, means.T, strict=True))


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
        np.concatenate([nothing, part.cumsum(axis=1, dtype=kind)[:, run.last_of_ties]], axis=1)
        for part, kind in (
            (resamples.weights, np.int64),
            (resamples.weights * (run.correct - run.confidence), np.float64),
        )
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
    return _floor_of_ranges(run, run.starts(n_bins), resamples, seed)


def adaptive_noise_floor(
    confidence: npt.ArrayLike, n_bins: int = 15, *, resamples: int = 200, seed: int = 0
) -> NoiseFloor:
    """Returns the `noise_floor` of `adaptive_ece`."""
    run = sorted_run(confidence, np.zeros(np.shape(confidence), bool))
    ends = tie_ends(run.confidence)
    return _floor_of_ranges(run, ends[equal_mass_cuts(ends, n_bins)][:-1], resamples, seed)


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

    check_resamples(resamples)
    rng, floors = np.random.default_rng(seed), []
    for rows in row_counts(run.n, resamples):
        floors.append(smoothed((rng.random((rows, run.n)) < run.confidence).astype(np.float64)))
    return _floor_of(np.concatenate(floors))


def _floor_of_ranges(run: SortedRun, starts: Ints, resamples: int, seed: int) -> NoiseFloor:
    """Returns the noise floor of ECE over bins that begin at `starts`.

    The redrawn examples are those whose number of `numpy.random.default_rng(seed).random((resamples, n))` is below
    their confidence.
    """
    from mixup_jax.metrics.compiled_resamples import count_below

    check_resamples(resamples)
    right = np.zeros((resamples, len(starts)), np.int64)

    def redraw(some: slice) -> None:
        numbers = raw_numbers(seed, some.start * run.n)
        for resample in range(some.start, some.stop):
            for part in rows_of(run.n, CUT):
                raw = numbers.random_raw(part.stop - part.start)
                count_below(raw, run.confidence, part.start, starts, right[resample])

    in_threads(redraw, list(rows_of(resamples, max(1, CHUNK // run.n))))
    confidence_sum = np.add.reduceat(run.confidence, starts)
    return _floor_of(np.abs(right - confidence_sum).sum(axis=1) / run.n)


def _floor_of(replicates: Floats) -> NoiseFloor:
    return NoiseFloor(mean=float(replicates.mean()), p95=float(np.quantile(replicates, 0.95)))
