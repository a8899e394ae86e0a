"""Bins straight from logits: one pass, and nothing as long as the data is made."""

from __future__ import annotations

import numpy.typing as npt

from mixup_jax.metrics.binning import CellSums, bin_edges, cell_sums
from mixup_jax.metrics.blocks import in_threads
from mixup_jax.metrics.calibration import Bins, bins_of_cells
from mixup_jax.metrics.scores import check_all_labelled, confidence_and_correct_of, parts_of, table_of_logits


def bin_logits(logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = 15) -> Bins:
    """Returns `bin_confidences(*confidence_and_correct(logits, labels), n_bins)` in less time and memory.

    Counts and correct predictions are exactly the same; sums of confidences are added in another order.

    Args:
      logits: floating point `[N, K]`; may be memory-mapped, and is read a block of rows at a time.
      labels: integer `[N]` in [0, K).
      n_bins: M >= 1.

    Raises:
      InputError: the arrays are malformed, an example has no label, or `n_bins` is below 1.
    """
    array, checked_labels, edges = table_of_logits(logits), check_all_labelled(logits, labels), bin_edges(n_bins)

    def sums_of(rows: slice) -> CellSums:
        confidence, correct = confidence_and_correct_of(array[rows], checked_labels[rows], array)
        return cell_sums(confidence, correct, edges, confidence)

    return bins_of_cells(edges, in_threads(sums_of, parts_of(array)))
