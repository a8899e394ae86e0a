"""Bins straight from logits: the fast way to ECE, for which a confidence need only be known well enough to bin it.

Exponentials in float32 take half the time of those in float64.  The confidences that come of them have a bounded error;
the few that lie within the bound of an edge are computed again in float64, so that every example is counted in the
bin that float64 puts it in.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics.binning import CellSums, bin_edges, bin_index, cell_sums, sums_of_cells
from mixup_jax.metrics.blocks import blocks, in_threads, rows_of
from mixup_jax.metrics.calibration import Bins, bins_of_cells
from mixup_jax.metrics.scores import (
    WIDE,
    Bools,
    Floats,
    Ints,
    Logits,
    check_all_labelled,
    confidence_of_block,
    label_is_largest,
    table_of_logits,
)

_PART = 1 << 18  # logits that a thread takes at a time
_PART_OF_WIDE = 1 << 19  # where there are many classes and fewer examples to a part: the fastest sizes of those tried
_LARGEST = np.float32(np.exp(60.0))  # exponentials from its inverse up to it can be added in float32
_ROUNDING = 2.0**-24  # the relative error of one
_MOST_CLASSES = 4096  # beyond, roundings of equal terms could add up to more than 1e-6
_MOST_DOUBTFUL = 0.25  # of all examples; where more are, float64 throughout is as fast


def bin_logits(logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = 15) -> Bins:
    """Returns `bin_confidences(*confidence_and_correct(logits, labels), n_bins)` in a fraction of the time and memory.

    Counts and correct predictions are exactly the same.  The sums of confidences are made of float32 exponentials
    where logits are float32 (or narrower) of up to 4,096 classes.  They differ by up to 1e-6 of themselves, and so
    do ECE and the other views; 1e-7 and less in practice.

    Args:
      logits: floating point `[N, K]`; may be memory-mapped, and is read a block of rows at a time.
      labels: integer `[N]` in [0, K).
      n_bins: M >= 1.

    Raises:
      InputError: the arrays are malformed, an example has no label, or `n_bins` is below 1.
    """
    array, checked_labels, edges = table_of_logits(logits), check_all_labelled(logits, labels), bin_edges(n_bins)
    classes = array.shape[1]
    # A sum of K positive numbers is within K roundings of itself in whatever order it is made; the rest is for the
    # exponentials, and a margin.
    error = (classes + 32) * _ROUNDING
    in_float32 = array.dtype.itemsize <= 4 and classes <= _MOST_CLASSES and 2 * error * n_bins < _MOST_DOUBTFUL
    rows_at_once = max(1, (_PART_OF_WIDE if classes >= WIDE else _PART) // classes)
    scratch = _Scratch(rows_at_once * classes)

    def sums_of(rows: slice) -> CellSums:
        block, known = array[rows], checked_labels[rows]
        rough = _rough(block, known, scratch) if in_float32 else None
        if rough is None:
            return cell_sums(*_in_float64(block, known, array), edges)
        narrow, correct = rough
        bins, doubtful = _placed(narrow, n_bins, error)
        confidence: Floats = narrow.astype(np.float64)
        confidence[doubtful], _ = _in_float64(block[doubtful], known[doubtful], array)
        bins[doubtful] = bin_index(confidence[doubtful], edges)
        return sums_of_cells(bins, confidence, correct, n_bins)

    return bins_of_cells(edges, in_threads(sums_of, list(rows_of(len(array), rows_at_once))))


class _Scratch(threading.local):
    """Two arrays for each thread, made once: the system takes as long to hand out memory as the exponentials do."""

    def __init__(self, size: int) -> None:
        self.columns, self.exponentials = np.empty((2, size), np.float32)


def _in_float64(block: Logits, labels: Ints, whole: Logits) -> tuple[Floats, Bools]:
    confidence, correct = np.empty(len(block)), np.empty(len(block), bool)
    for rows in blocks(*block.shape):
        confidence[rows], correct[rows] = confidence_of_block(block[rows], labels[rows], whole)
    return confidence, correct


def _rough(block: Logits, labels: Ints, scratch: _Scratch) -> tuple[npt.NDArray[np.float32], Bools] | None:
    """Returns the confidences of some rows by float32, and which predictions are right; None if float32 is too narrow.

    It is too narrow for largest logits beyond 60 either way; NaN and infinity are left to float64, which refuses them.
    """
    with np.errstate(over="ignore"):
        largest, total, correct = _largest_and_total(block, labels, scratch)
    if not (largest.min() >= 1 / _LARGEST and largest.max() <= _LARGEST):
        return None
    return np.minimum(largest / total, np.float32(1.0)), correct


def _largest_and_total(
    block: Logits, labels: Ints, scratch: _Scratch
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Bools]:
    """Returns the largest exponential of each row, their sum, and which predictions are right."""
    exponentials = scratch.exponentials[: block.size]
    if block.shape[1] >= WIDE:
        by_row = np.exp(block, out=exponentials.reshape(block.shape), dtype=np.float32)
        predicted = block.argmax(axis=1)
        return by_row[np.arange(len(block)), predicted], np.einsum("nk->n", by_row), predicted == labels
    columns = scratch.columns[: block.size].reshape(block.shape[::-1])
    np.copyto(columns, block.T)
    top = columns.max(axis=0)
    total = np.exp(columns, out=exponentials.reshape(columns.shape)).sum(axis=0)
    return np.exp(top), total, label_is_largest(columns, top, labels)


def _placed(confidence: npt.NDArray[np.float32], n_bins: int, error: float) -> tuple[Ints, Ints]:
    """Returns the bin of each confidence, and which of them a relative error may have carried over an edge."""
    place = confidence * np.float32(n_bins)
    edge = np.rint(place)
    doubtful = np.flatnonzero((np.abs(place - edge) <= np.float32(error) * edge) & (edge < n_bins))
    return np.minimum(place.astype(np.int64), n_bins - 1), doubtful
