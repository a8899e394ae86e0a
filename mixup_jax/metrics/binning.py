"""Bins of confidence, from which calibration errors are computed.

Equally wide bins are right-closed, ((m-1)/M, m/M], and 0 belongs to the first.  Merging bins adds their sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.softmax import (
    Bools,
    Floats,
    Ints,
    check_all_labelled,
    confidence_and_correct_of,
    parts_of,
    plain,
    table_of_logits,
)

_MOST_SPREAD = 1024  # up to this many bins, each cell's sums are made in `_LANES` parts
_LANES = 8  # must be a power of two; 16 are no faster


def check_confidences(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Returns confidence (float64 `[N]`) and correct (bool `[N]`) after checking both."""
    confidences, outcomes = vectors(confidence, correct)
    check_range(confidences)
    return confidences.astype(np.float64, copy=False), check_outcomes(outcomes)


def vectors(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns confidences (any floating point) and outcomes after checking that both are vectors of one length."""
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
    """Returns the outcomes as bool; raises InputError if one is not true, false, 1 or 0."""
    if outcomes.dtype == np.bool_:
        return outcomes
    if outcomes.dtype.kind not in "iuf":
        raise InputError(f"correct has dtype {outcomes.dtype}; expected true or false for every example")
    neither = (outcomes != 0) & (outcomes != 1)
    if neither.any():
        first = int(np.argmax(neither))
        raise InputError(f"correct is {outcomes[first]} for example {first}; expected true or false for every example")
    return outcomes.astype(bool)


def bin_edges(n_bins: int) -> Floats:
    """Returns the edges of `n_bins` equally wide bins, float64 `[n_bins + 1]`: m / n_bins up to one rounding.

    They are `numpy.linspace(0, 1, n_bins + 1)`, as in scikit-learn, so that a confidence exactly on an edge is
    in the same bin in both.
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise InputError(f"n_bins is {n_bins!r}; expected a whole number of at least 1")
    return np.linspace(0.0, 1.0, n_bins + 1)


def bin_index(confidence: Floats, edges: Floats) -> Ints:
    """Returns the bin of each confidence, int64 `[N]` in [0, M): right-closed, 0 in the first bin."""
    # Search the edges: ceil(confidence * M) may round to the other side of an edge.
    return np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)


def equal_width_index(confidence: Floats, edges: Floats) -> Ints:
    """Returns `bin_index`, many times faster, for the edges of `bin_edges` and confidences of any shape."""
    from mixup_jax.metrics.compiled import place

    index = np.empty(confidence.shape, np.int64)
    # numpy.linspace makes edge m (except the last) as m * edges[1], where edges[1] is the width of a bin.
    place(plain(confidence, np.float64).ravel(), edges[1], len(edges) - 1, index.reshape(-1))
    return index


class CellSums(NamedTuple):
    """Number of examples and sum of confidences, `[2 M]` each: in M bins of wrong predictions, then of correct ones."""

    examples: Ints
    confidence_sum: Floats


def cell_sums(confidence: npt.NDArray[Any], correct: Bools, edges: Floats, whole: npt.NDArray[Any]) -> CellSums:
    """Returns the `CellSums` of examples in equally wide bins with these edges.

    The message of an error gives the position in `whole`.
    """
    from mixup_jax.metrics.compiled import add_to_cells

    n_bins = len(edges) - 1
    lanes = _LANES if n_bins <= _MOST_SPREAD else 1
    examples, confidence_sum = np.zeros((2, 2 * n_bins * lanes))
    outcomes = plain(correct, np.bool_).view(np.uint8)
    if not add_to_cells(plain(confidence, np.float64), outcomes, edges[1], lanes, examples, confidence_sum):
        check_range(whole)
    examples, confidence_sum = (part.reshape(-1, lanes).sum(axis=1) for part in (examples, confidence_sum))
    return CellSums(examples.astype(np.int64), confidence_sum)


_BLOCK = 1 << 18  # examples binned at a time: fewer would take less time than starting a thread


@dataclass(frozen=True, eq=False)
class Bins:
    """The number of examples in each bin of confidence, and their sums of confidence and correctness.

    Attributes:
      edges: float64 `[M + 1]`, from 0 to 1; bin m is (edges[m], edges[m + 1]], the first also holds 0.
        Equally wide (`bin_confidences`) or not (`bin_equal_mass`).
      count: int64 `[M]`, examples.
      confidence_sum: float64 `[M]`, sum of their confidences.
      correct_sum: float64 `[M]`, how many of them were classified correctly.
    """

    edges: Floats
    count: Ints
    confidence_sum: Floats
    correct_sum: Floats

    def __post_init__(self) -> None:
        shapes = [np.shape(part) for part in (self.edges, self.count, self.confidence_sum, self.correct_sum)]
        bins = shapes[0][0] - 1 if len(shapes[0]) == 1 else 0
        if bins < 1 or shapes[1:] != [(bins,)] * 3:
            raise InputError(
                f"edges, count and sums have shapes {shapes}; expected [M + 1], [M], [M] and [M] with M >= 1"
            )

    @classmethod
    def empty(cls, n_bins: int) -> Bins:
        """Returns `n_bins` equally wide bins without examples, the neutral element of `merge`."""
        return bin_confidences(np.zeros(0), np.zeros(0, bool), n_bins)

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.count.sum())

    @property
    def n_bins(self) -> int:
        """Number of bins, M."""
        return len(self.count)

    @property
    def confidence(self) -> Floats:
        """Mean confidence of each bin, float64 `[M]`; NaN for an empty bin."""
        return _ratio(self.confidence_sum, self.count)

    @property
    def accuracy(self) -> Floats:
        """Share of correct predictions in each bin, float64 `[M]`; NaN for an empty bin."""
        return _ratio(self.correct_sum, self.count)

    def merge(self, other: Bins) -> Bins:
        """Returns the bins of both sets of examples together; associative up to rounding."""
        if not np.array_equal(self.edges, other.edges):
            raise InputError(
                f"bins with different edges cannot be merged ({self.n_bins} and {other.n_bins} bins); "
                "expected the same edges on both sides"
            )
        return Bins(
            edges=self.edges,
            count=self.count + other.count,
            confidence_sum=self.confidence_sum + other.confidence_sum,
            correct_sum=self.correct_sum + other.correct_sum,
        )


def _ratio(total: Floats, count: Ints) -> Floats:
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def bin_confidences(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> Bins:
    """Returns the `Bins` of examples with these confidences.

    Bins are right-closed, ((m-1)/M, m/M]; confidence 0 is in the first and exactly 1 in the last, so
    every example counts once.  Confidences are compared with the edges in float64.
    """
    confidences, given_outcomes = vectors(confidence, correct)
    outcomes, edges = check_outcomes(given_outcomes), bin_edges(n_bins)

    def sums_of(rows: slice) -> CellSums:
        return cell_sums(confidences[rows], outcomes[rows], edges, confidences)

    return bins_of_cells(edges, in_threads(sums_of, list(rows_of(len(confidences), _BLOCK))))


def bins_of_cells(edges: Floats, parts: Sequence[CellSums]) -> Bins:
    """Returns the `Bins` of all parts together, added up in their order."""
    n_bins = len(edges) - 1
    count, confidence_sum = np.zeros(2 * n_bins, np.int64), np.zeros(2 * n_bins)
    for part in parts:
        count += part.examples
        confidence_sum += part.confidence_sum
    wrong, right = count.reshape(2, n_bins)
    return Bins(edges, wrong + right, confidence_sum.reshape(2, n_bins).sum(axis=0), right.astype(np.float64))


def bin_logits(logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = 15) -> Bins:
    """Returns `bin_confidences(*confidence_and_correct(logits, labels), n_bins)` in less time and memory.

    Counts and correct predictions are exactly the same; sums of confidences are added in another order.
    """
    array, checked_labels, edges = table_of_logits(logits), check_all_labelled(logits, labels), bin_edges(n_bins)

    def sums_of(rows: slice) -> CellSums:
        confidence, correct = confidence_and_correct_of(array[rows], checked_labels[rows], array)
        return cell_sums(confidence, correct, edges, confidence)

    return bins_of_cells(edges, in_threads(sums_of, parts_of(array)))
