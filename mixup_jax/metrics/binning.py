"""Where a confidence belongs among equally wide bins, and what is summed there.

Bins are right-closed, ((m-1)/M, m/M], and 0 belongs to the first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.scores import Bools, Floats, Ints, plain

_MOST_SPREAD = 1024  # numbers of bins up to which each cell's sums are made in `_LANES` parts
_LANES = 8  # a power of two; more are no faster


def check_confidences(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Returns confidence (float64 `[N]`) and correct (bool `[N]`) after checking both.

    Raises:
      InputError: not two vectors of one length; a confidence that is NaN or outside [0, 1]; an
        entry of `correct` that is neither true nor false (nor 1 nor 0).
    """
    confidences, outcomes = vectors(confidence, correct)
    check_range(confidences)
    return confidences.astype(np.float64, copy=False), check_outcomes(outcomes)


def vectors(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns two vectors of one length, confidences in any floating point, after checking that much of both."""
    confidences = np.asarray(confidence)
    if not np.issubdtype(confidences.dtype, np.floating):
        confidences = confidences.astype(np.float64)
    outcomes = np.asarray(correct)
    if confidences.ndim != 1 or outcomes.shape != confidences.shape:
        raise InputError(
            f"confidence has shape {list(confidences.shape)} and correct {list(outcomes.shape)}; expected [N] for both"
        )
    return confidences, outcomes


def check_range(confidences: npt.NDArray[Any]) -> None:
    """Raises InputError if one of the confidences is NaN or outside [0, 1]."""
    # Minimum and maximum are NaN if any confidence is.
    if len(confidences) and not (confidences.min() >= 0 and confidences.max() <= 1):
        first = int(np.argmax(~((confidences >= 0) & (confidences <= 1))))
        raise InputError(f"confidence {confidences[first]} of example {first} is not a probability; expected 0 to 1")


def check_outcomes(outcomes: npt.NDArray[Any]) -> Bools:
    """Returns them as bool; raises InputError if one is neither true nor false (nor 1 nor 0)."""
    if outcomes.dtype == np.bool_:
        return outcomes
    neither = (outcomes != 0) & (outcomes != 1)
    if neither.any():
        first = int(np.argmax(neither))
        raise InputError(f"correct is {outcomes[first]} for example {first}; expected true or false for every example")
    return outcomes.astype(bool)


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
    """Returns `bin_index` for the edges of `bin_edges`, many times as fast; any shape."""
    from mixup_jax.metrics.compiled_cells import place

    index = np.empty(confidence.shape, np.int64)
    # edges[1] is the width of a bin in float64, and edge m (but the last) m times that, as linspace makes them.
    place(plain(confidence, np.float64).ravel(), edges[1], len(edges) - 1, index.reshape(-1))
    return index


class CellSums(NamedTuple):
    """Examples and the sum of their confidences, `[2 M]`: of wrong predictions in each bin, then of right ones."""

    examples: Ints
    confidence_sum: Floats


def cell_sums(confidence: npt.NDArray[Any], correct: Bools, edges: Floats, whole: npt.NDArray[Any]) -> CellSums:
    """Returns the sums of some examples in the bins of `bin_edges`.

    Raises:
      InputError: a confidence is NaN or outside [0, 1]; it counts the examples of `whole`.
    """
    from mixup_jax.metrics.compiled_cells import add_to_cells

    n_bins = len(edges) - 1
    lanes = _LANES if n_bins <= _MOST_SPREAD else 1
    examples, confidence_sum = np.zeros((2, 2 * n_bins * lanes))
    outcomes = plain(correct, np.bool_).view(np.uint8)
    if not add_to_cells(plain(confidence, np.float64), outcomes, edges[1], lanes, examples, confidence_sum):
        check_range(whole)
    examples, confidence_sum = (part.reshape(-1, lanes).sum(axis=1) for part in (examples, confidence_sum))
    return CellSums(examples.astype(np.int64), confidence_sum)
