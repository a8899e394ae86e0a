"""Bins of equal mass: as many examples in each as ties allow.

Equally wide bins leave most of a confident network's examples in the last one or two; bins of equal mass
spread them (adaptive calibration error; Nixon et al., 2019, arXiv:1904.01685).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics.binning import bin_edges, check_confidences
from mixup_jax.metrics.calibration import Bins, ece
from mixup_jax.metrics.scores import Floats, Ints


def bin_equal_mass(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> Bins:
    """Returns at most `n_bins` bins with about as many examples each; equal confidences share a bin.

    In ascending confidence, cut k = 1 .. M - 1 belongs after `k N / M` examples.  It moves to the
    nearest place where the confidence changes (of two equally near, the lower), and cuts that meet
    are one.  So the order of tied examples does not matter, a predictor that is always equally sure
    has a single bin and shows its true gap, and no bin is empty.  Without ties every bin holds N / M
    examples, rounded.

    The edges are confidences that occur: bin m holds those in (edges[m], edges[m + 1]], the first also
    0, as in `bin_confidences`.  They depend on the data, so bins of two sets do not merge.

    Args:
      confidence: `[N]` in [0, 1]; N = 0 gives one empty bin.
      correct: bool `[N]`.
      n_bins: M >= 1.

    Raises:
      InputError: the arrays are malformed (see `check_confidences`) or `n_bins` is below 1.
    """
    confidences, outcomes = check_confidences(confidence, correct)
    bin_edges(n_bins)  # for its check
    if len(confidences) == 0:
        return Bins.empty(1)
    ascending = np.sort(confidences)
    ends = _equal_mass_ends(ascending, n_bins)
    upper_edges = ascending[ends[1:] - 1]
    # Sorting twice without an order to carry along is several times faster than sorting with it.
    correct_up_to = np.searchsorted(np.sort(confidences[outcomes]), upper_edges, side="right")
    return Bins(
        edges=np.concatenate([[0.0], upper_edges[:-1], [1.0]]),
        count=np.diff(ends),
        confidence_sum=np.add.reduceat(ascending, ends[:-1]),
        correct_sum=np.diff(correct_up_to, prepend=0).astype(np.float64),
    )


def _equal_mass_ends(ascending: Floats, n_bins: int) -> Ints:
    """Returns after how many examples the bins end, 0 first: what `equal_mass_cuts` chooses, found without all ends.

    Looking around each cut needs no memory beside the sorted confidences.
    """
    n = len(ascending)
    wanted = n * np.arange(1, n_bins)  # times n_bins, as all distances below
    before_cut = ascending[-(-wanted // n_bins) - 1]
    lower, upper = (np.searchsorted(ascending, before_cut, side=side) for side in ("left", "right"))
    lower_is_nearer = wanted - n_bins * lower <= n_bins * upper - wanted
    return np.unique(np.concatenate([[0], np.where(lower_is_nearer, lower, upper), [n]])).astype(np.int64)


def tie_ends(ascending: Floats) -> Ints:
    """Returns 0, and after how many examples the confidence changes, and N: int64 `[distinct + 1]`."""
    changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    return np.concatenate([[0], changes, [len(ascending)]]).astype(np.int64)


def equal_mass_cuts(ends: Ints, n_bins: int) -> Ints:
    """Returns which of `ends` (ascending, from 0 to N) are the ends of bins: indices, the first and last among them.

    See `bin_equal_mass` for the rule.  In whole numbers, so that nothing is decided by rounding.
    """
    wanted = ends[-1] * np.arange(1, n_bins)  # times n_bins, as all distances below
    upper = np.searchsorted(ends, -(-wanted // n_bins))
    # `wanted` lies above 0 and below the last end, so there is an end on either side.
    lower_is_nearer = wanted - n_bins * ends[upper - 1] <= n_bins * ends[upper] - wanted
    chosen = np.unique(np.concatenate([[0], upper - lower_is_nearer, [len(ends) - 1]]))
    # Ends repeat where a resample leaves an example out; the first of equal ones stands for all.
    return chosen[np.concatenate([[True], np.diff(ends[chosen]) > 0])]


def adaptive_ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15, *, norm: str = "l1") -> float:
    """Returns ECE over bins of equal mass (adaptive calibration error), in [0, 1].

    `ece(bin_equal_mass(confidence, correct, n_bins), norm)`.

    Args:
      confidence: `[N]` in [0, 1], N >= 1.
      correct: bool `[N]`.
      n_bins: M >= 1.
      norm: "l1", "l2" or "max", see `ece`.

    Raises:
      InputError: an argument is malformed, or there are no examples.
    """
    return ece(bin_equal_mass(confidence, correct, n_bins), norm)
