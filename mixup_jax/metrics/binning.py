"""Where a confidence belongs among equally wide bins, and what is summed there.

Bins are right-closed, ((m-1)/M, m/M], and 0 belongs to the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.scores import Bools, Floats, Ints

_AT_EDGE = 1e-9  # of a bin's width: far more than rounding moves a confidence
_MOST_MULTIPLIED = 4096  # numbers of bins up to which multiplying places every float64 as searching does


def check_confidences(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Returns confidence (float64 `[N]`) and correct (bool `[N]`) after checking both.

    Raises:
      InputError: not two vectors of one length; a confidence that is NaN or outside [0, 1]; an
        entry of `correct` that is neither true nor false (nor 1 nor 0).
    """
    confidences, outcomes = checked_confidences(confidence, correct)
    return confidences.astype(np.float64, copy=False), outcomes


def checked_confidences(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[npt.NDArray[Any], Bools]:
    """As `check_confidences`, but leaves float32 confidences as they are: a copy of 1e7 would cost 80 MB."""
    confidences = np.asarray(confidence)
    if not np.issubdtype(confidences.dtype, np.floating):
        confidences = confidences.astype(np.float64)
    outcomes = np.asarray(correct)
    if confidences.ndim != 1 or outcomes.shape != confidences.shape:
        raise InputError(
            f"confidence has shape {list(confidences.shape)} and correct {list(outcomes.shape)}; expected [N] for both"
        )
    # Minimum and maximum are NaN if any confidence is.
    if len(confidences) and not (confidences.min() >= 0 and confidences.max() <= 1):
        first = int(np.argmax(~((confidences >= 0) & (confidences <= 1))))
        raise InputError(f"confidence {confidences[first]} of example {first} is not a probability; expected 0 to 1")
    if outcomes.dtype != np.bool_:
        neither = (outcomes != 0) & (outcomes != 1)
        if neither.any():
            first = int(np.argmax(neither))
            raise InputError(
                f"correct is {outcomes[first]} for example {first}; expected true or false for every example"
            )
        outcomes = outcomes.astype(bool)
    return confidences, outcomes


def bin_edges(n_bins: int) -> Floats:
    """Returns the edges of `n_bins` equally wide bins: m / n_bins or its neighbour in float64, `[n_bins + 1]`.

    They are `numpy.linspace(0, 1, n_bins + 1)`, as in scikit-learn, so that a confidence exactly on an edge is
    in the same bin in both.

    Raises:
      InputError: `n_bins` is not a whole number of at least 1.
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise InputError(f"n_bins is {n_bins!r}; expected a whole number of at least 1")
    return np.linspace(0.0, 1.0, n_bins + 1)


def bin_index(confidence: Floats, edges: Floats) -> Ints:
    """Returns the bin of each confidence, int64 `[N]` in [0, M): right-closed, 0 in the first bin."""
    # Searching the very edges puts m / M into bin m; ceil(confidence * M) would misplace some of them.
    return np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)


def equal_width_index(confidence: Floats, edges: Floats) -> Ints:
    """Returns `bin_index` for the edges of `bin_edges`, five times as fast; any shape."""
    n_bins = len(edges) - 1
    if n_bins > _MOST_MULTIPLIED:
        return bin_index(confidence, edges)
    place = np.multiply(confidence, n_bins)
    index = place.astype(np.int64)
    # Rounding and the closed right end put some of those at an edge one bin too high, and 1 past the last.
    place -= np.floor(place)
    at_edge = np.flatnonzero((place < _AT_EDGE) & (index > 0))
    lower = np.concatenate([[-1.0], edges[1:]])
    flat = index.reshape(-1)  # a view
    flat[at_edge] -= np.reshape(confidence, -1)[at_edge] <= lower[flat[at_edge]]
    return index


class CellSums(NamedTuple):
    """Examples and the sum of their confidences, `[2 M]`: of wrong predictions in each bin, then of right ones."""

    examples: Ints
    confidence_sum: Floats


def cell_sums(confidence: Floats, correct: Bools, edges: Floats) -> CellSums:
    """Returns the sums of some examples in the bins of `bin_edges`."""
    return sums_of_cells(equal_width_index(confidence, edges), confidence, correct, len(edges) - 1)


def sums_of_cells(index: Ints, confidence: Floats, correct: Bools, n_bins: int) -> CellSums:
    """Returns the sums of some examples in the bins of this index, which is changed."""
    index += n_bins * correct  # wrong and right ones in one pass
    confidence_sum: Floats = np.bincount(index, confidence, minlength=2 * n_bins).astype(np.float64, copy=False)
    return CellSums(np.bincount(index, minlength=2 * n_bins), confidence_sum)
