"""The numbers of many resamples of one run at once: what bootstrap intervals are made from.

Sorted by confidence, each bin of any scheme is one contiguous stretch, and a resample is a row of counts.
The formulas are those of the metrics themselves, applied along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.adaptive import equal_mass_cuts, tie_ends
from mixup_jax.metrics.binning import bin_edges, check_confidences
from mixup_jax.metrics.calibration import calibration_error, overconfidence_error, signed_error
from mixup_jax.metrics.debiased import debiased_error
from mixup_jax.metrics.decomposition import resolution, uncertainty
from mixup_jax.metrics.scores import Bools, Floats, Ints
from mixup_jax.metrics.smooth import GRID, grid_shares, smooth_ece_of_grid

BINNED: dict[str, Callable[[Ints, Floats, Floats], Floats]] = {
    "ece": calibration_error,
    "oe": overconfidence_error,
    "mce": partial(calibration_error, norm="max"),
    "ece_l2": partial(calibration_error, norm="l2"),
    "ece_over": signed_error,
    "ece_under": partial(signed_error, sign=-1.0),
    "debiased_ece_l1": partial(debiased_error, norm="l1"),
    "debiased_ece_l2": partial(debiased_error, norm="l2"),
    "brier_reliability": lambda count, confidence, correct: calibration_error(count, confidence, correct, "l2") ** 2,
    "brier_resolution": lambda count, _, correct: resolution(count, correct),
    "brier_uncertainty": lambda count, _, correct: uncertainty(count, correct),
}
"""Numbers of equally wide bins: from count, sum of confidence and number correct, `[R, M]` each, to `[R]`."""

ADAPTIVE = ("adaptive_ece",)
UNBINNED = ("accuracy", "confidence_minus_accuracy", "smooth_ece")
STATISTICS = (*UNBINNED, *BINNED, *ADAPTIVE)
"""Every name that `bootstrap_intervals` knows."""


@dataclass(frozen=True)
class SortedRun:
    """A run in ascending confidence, `[N]` each; `order` takes the examples as they were given to this order."""

    order: Ints
    confidence: Floats
    correct: Bools
    starts: dict[int, Ints]  # number of bins -> first position of each non-empty bin
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


def sorted_run(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    n_bins: Sequence[int],
    losses: Mapping[str, npt.ArrayLike] | None = None,
) -> SortedRun:
    """Returns a run in ascending confidence after checking it.

    Raises:
      InputError: the arrays are malformed, there are no examples, or a loss is not finite.
    """
    confidences, outcomes = check_confidences(confidence, correct)
    if len(confidences) == 0:
        raise InputError("confidence holds no examples; expected at least one")
    checked = {name: _checked_loss(name, loss, len(confidences)) for name, loss in (losses or {}).items()}
    order = np.lexsort((*checked.values(), outcomes, confidences))
    ascending = confidences[order]
    return SortedRun(
        order=order,
        confidence=ascending,
        correct=outcomes[order],
        starts={bins: bin_starts(ascending, bins) for bins in n_bins},
        losses={name: loss[order] for name, loss in checked.items()},
    )


def bin_starts(ascending: Floats, n_bins: int) -> Ints:
    """Returns the first position of each non-empty one of equally wide bins, in ascending confidences."""
    inner = np.searchsorted(ascending, bin_edges(n_bins)[1:-1], side="right")
    starts = np.unique(np.concatenate([[0], inner]))
    return starts[starts < len(ascending)]


def _checked_loss(name: str, loss: npt.ArrayLike, n: int) -> Floats:
    values = np.asarray(loss, np.float64)
    if name in STATISTICS:
        raise InputError(f"losses name {name!r}, which is a number of the confidences; expected another name")
    if values.shape != (n,):
        raise InputError(f"loss {name} has shape {list(values.shape)}; expected [{n}], one for each example")
    if not np.isfinite(values).all():
        first = int(np.argmin(np.isfinite(values)))
        raise InputError(f"loss {name} is {values[first]} for example {first}; expected finite numbers")
    return values


def check_names(names: Sequence[str]) -> None:
    """Raises InputError for a name that is none of `STATISTICS`."""
    for name in names:
        if name not in STATISTICS:
            raise unknown_name("statistic", name, STATISTICS)


def statistics(run: SortedRun, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
    """Returns the named numbers (`[R]` each) when example i occurs `counts[r, i]` times; then the mean losses."""
    weights = counts if run.in_order else counts[:, run.order]
    confidence, correct = weights * run.confidence, weights * run.correct
    found: dict[str, Floats] = {}
    if "accuracy" in names:
        found["accuracy"] = correct.sum(axis=1) / run.n
    if "confidence_minus_accuracy" in names:
        found["confidence_minus_accuracy"] = (confidence.sum(axis=1) - correct.sum(axis=1)) / run.n
    if "smooth_ece" in names:
        found["smooth_ece"] = _smooth_ece(run, weights)
    binned = [name for name in names if name in BINNED]
    for bins, starts in run.starts.items():
        if binned:
            sums = [np.add.reduceat(part, starts, axis=1) for part in (weights, confidence, correct)]
            found |= {f"{name}_{bins}": BINNED[name](*sums) for name in binned}
        if "adaptive_ece" in names:
            found[f"adaptive_ece_{bins}"] = _adaptive_ece(run, weights, correct - confidence, bins)
    return found | {name: weights @ loss / run.n for name, loss in run.losses.items()}


def _adaptive_ece(run: SortedRun, weights: Ints, residuals: Floats, n_bins: int) -> Floats:
    """Each resample gets bins of equal mass of its own."""
    nothing = np.zeros((len(weights), 1), np.int64)
    examples, residual = (
        np.concatenate([nothing, part.cumsum(axis=1)[:, run.last_of_ties]], axis=1) for part in (weights, residuals)
    )
    gaps = [np.diff(row[equal_mass_cuts(ends, n_bins)]) for ends, row in zip(examples, residual, strict=True)]
    return np.array([np.abs(gap).sum() for gap in gaps]) / run.n


def _smooth_ece(run: SortedRun, weights: Ints) -> Floats:
    left, share, residual = grid_shares(run.confidence, run.correct)
    points, starts = np.unique(left, return_index=True)
    grid = np.zeros((len(weights), GRID + 1))
    grid[:, points] = np.add.reduceat(weights * (residual * (1.0 - share)), starts, axis=1)
    grid[:, points + 1] += np.add.reduceat(weights * (residual * share), starts, axis=1)
    return smooth_ece_of_grid(grid / run.n)
