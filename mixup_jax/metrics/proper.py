"""Proper scores, which only the true probabilities minimise; the parts of the Brier score; top-k accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import bin_edges, check_confidences, equal_width_index
from mixup_jax.metrics.classwise import class_cells
from mixup_jax.metrics.logits import Result, check_logits, in_threads
from mixup_jax.metrics.softmax import (
    WIDE,
    Bools,
    Floats,
    Ints,
    bits_of,
    check_all_labelled,
    parts_of,
    plain,
    plain_rows,
    table_of_logits,
)


def nll(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the negative log-likelihood, `-mean_i log p_i[y_i]`, in nats, at least 0.

    Infinite when the true class of an example is impossible (its logit is -inf).
    """
    return _mean_loss(logits, labels, brier=False)


def brier(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the Brier score, `mean_i sum_k (p_ik - 1[k = y_i])^2`, in [0, 2].

    The sum over classes is Brier's own definition (1950); some libraries divide it by K or, for two
    classes, by 2.
    """
    return _mean_loss(logits, labels, brier=True)


def nll_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Returns `-log p_i[y_i]` of every example, float64 `[N]` in [0, inf]; `nll` is their mean."""
    return np.concatenate(_losses(logits, labels, lambda nll: nll, brier=False))


def brier_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Returns `sum_k (p_ik - 1[k = y_i])^2` of every example, float64 `[N]` in [0, 2]; `brier` is their mean."""
    return np.concatenate(_losses(logits, labels, lambda brier: brier, brier=True))


def _mean_loss(logits: npt.ArrayLike, labels: npt.ArrayLike, brier: bool) -> float:
    # An array of all losses would take longer than the loop: the machine must first provide its memory.
    sums = _losses(logits, labels, lambda loss: float(loss.sum()), brier)
    return math.fsum(sums) / len(np.asarray(labels))


def _losses(
    logits: npt.ArrayLike, labels: npt.ArrayLike, result_of: Callable[[Floats], Result], brier: bool
) -> list[Result]:
    """Returns what is made of the losses of each part of the examples: Brier scores, or else the NLL."""
    from mixup_jax.metrics.compiled_losses import losses_of_narrow_rows, losses_of_wide_rows

    array, checked = table_of_logits(logits), check_all_labelled(logits, labels)

    def work(rows: slice) -> Result:
        block, places = plain_rows(array[rows]), plain(checked[rows], np.int64)
        others, below = np.empty((2, len(block)))
        score = np.empty(len(block) if brier else 0)
        if block.shape[1] >= WIDE:
            losses_of_wide_rows(block, bits_of(block), places, others, below, score)
        else:
            losses_of_narrow_rows(block, places, others, below, score)
        if np.isnan(others).any():
            check_logits(array)
        return result_of(score if brier else np.add(np.log1p(others, out=others), below, out=others))

    return in_threads(work, parts_of(array))


def brier_of_sums(others: Floats, squares: Floats, of_label: Floats, right: Bools) -> Floats:
    """Returns `brier_of_each` from sums over all classes but one of the largest, relative to the largest.

    They are the sums of exponentials and of their squares; also needed are the exponential of the label, and whether it
    is one of the largest.  No two large numbers are subtracted, so small scores keep their relative precision.
    """
    wrong = np.where(right, others, 1.0 + (others - of_label))
    wrong_squares = np.where(right, squares, 1.0 + (squares - np.square(of_label)))
    score: Floats = (np.square(wrong) + wrong_squares) / np.square(1.0 + others)
    return score


class BrierDecomposition(NamedTuple):
    """`brier = reliability - resolution + uncertainty + within_bin_variance - within_bin_covariance`.

    Attributes:
      brier: the score itself.
      reliability: squared miscalibration, 0 if perfectly calibrated; the square of ECE with norm "l2".
      resolution: how much the accuracy differs from bin to bin; more is better.
      uncertainty: acc (1 - acc), the score of always predicting the overall accuracy.
      within_bin_variance: the variance of the confidences in a bin.
      within_bin_covariance: twice the covariance of confidence and outcome in a bin.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bin_variance: float
    within_bin_covariance: float


@dataclass(frozen=True, eq=False)
class BrierSums:
    """The sums from which a `BrierDecomposition` is computed; those of parts of a data set can be merged.

    Attributes:
      sums: float64 `[E, 5, M]`, of E events (1, or one for each class) and M bins: the number of examples, and the
        sums of forecast f, outcome o, f^2 and f o.
    """

    sums: Floats

    def merge(self, other: BrierSums) -> BrierSums:
        """Returns the sums of both sets of examples together; associative up to rounding."""
        if self.sums.shape != other.sums.shape:
            raise InputError(
                f"sums of shapes {list(self.sums.shape)} and {list(other.sums.shape)} cannot be merged; "
                "expected as many classes and bins on both sides"
            )
        return BrierSums(self.sums + other.sums)

    @property
    def decomposition(self) -> BrierDecomposition:
        """Returns the parts, summed over the events."""
        if not self.sums[:, 0].sum():
            raise InputError("the sums hold no examples; expected at least one")
        parts = np.array([_decomposed(sums) for sums in self.sums])
        return BrierDecomposition(*(float(part) for part in parts.sum(axis=0)))


def brier_sums(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> BrierSums:
    """Returns the sums of `brier_decomposition`, which raises the same errors; here N = 0 is allowed."""
    confidences, outcomes = check_confidences(confidence, correct)
    edges = bin_edges(n_bins)
    return BrierSums(_sums(confidences, outcomes, equal_width_index(confidences, edges), n_bins)[None])


def brier_sums_of_classes(logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = 15) -> BrierSums:
    """Returns the sums of `brier_decomposition_of_classes`, which raises the same errors."""
    checked, edges = check_all_labelled(logits, labels), bin_edges(n_bins)
    classes = np.shape(logits)[1]
    sums = np.zeros((5, classes * n_bins))
    for probability, outcome, cell in class_cells(logits, checked, edges):
        sums += _sums(probability.ravel(), outcome.ravel(), cell.ravel(), classes * n_bins)
    return BrierSums(sums.reshape(5, classes, n_bins).transpose(1, 0, 2))


def brier_decomposition(confidence: npt.ArrayLike, correct: npt.ArrayLike, n_bins: int = 15) -> BrierDecomposition:
    """Returns the parts of `mean_i (confidence_i - correct_i)^2`, the Brier score of the prediction being correct.

    This is the score of one binary event, in [0, 1], not the `brier` of all classes, for which see
    `brier_decomposition_of_classes`.  With n_m, conf_m, acc_m of equally wide bins and acc overall:

      reliability = sum_m n_m/n (conf_m - acc_m)^2;  resolution = sum_m n_m/n (acc_m - acc)^2;
      uncertainty = acc (1 - acc)

    (Murphy, 1973).  These three add up to the score only if all confidences in a bin are equal; with the two
    within-bin terms of Stephenson, Coelho & Jolliffe (2008) they always do.
    """
    return brier_sums(confidence, correct, n_bins).decomposition


def brier_decomposition_of_classes(
    logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: int = 15
) -> BrierDecomposition:
    """Returns the parts of `brier(logits, labels)`, each summed over the K events "the label is k".

    The probability of every class is binned, not only the largest.  `brier` is in [0, 2].
    """
    return brier_sums_of_classes(logits, labels, n_bins).decomposition


def _sums(forecast: Floats, outcome: Bools, cell: Ints, cells: int) -> Floats:
    """Returns the count and the sums of f, o, f^2 and f o of forecasts f and outcomes o in each cell, `[5, cells]`."""
    weights = (None, forecast, outcome, np.square(forecast), forecast * outcome)
    return np.stack([np.bincount(cell, weight, minlength=cells) for weight in weights]).astype(np.float64)


def resolution(count: Ints | Floats, correct_sum: Floats) -> Floats:
    """Returns `sum_m n_m/n (acc_m - acc)^2` for each set of bins along the last axis: `[..., M]` in, `[...]` out."""
    n = count.sum(axis=-1, keepdims=True)
    gap = correct_sum / np.maximum(count, 1) - correct_sum.sum(axis=-1, keepdims=True) / n
    return np.asarray((count * np.square(gap)).sum(axis=-1) / n[..., 0], np.float64)


def uncertainty(count: Ints | Floats, correct_sum: Floats) -> Floats:
    """Returns `acc (1 - acc)` for each set of bins along the last axis: `[..., M]` in, `[...]` out."""
    base_rate = correct_sum.sum(axis=-1) / count.sum(axis=-1)
    return np.asarray(base_rate * (1.0 - base_rate), np.float64)


def _decomposed(sums: Floats) -> BrierDecomposition:
    count, forecast, outcome, squares, products = sums[:, sums[0] > 0]
    n = count.sum()
    parts = (
        (squares - 2.0 * products + outcome).sum() / n,
        (np.square(forecast - outcome) / count).sum() / n,
        resolution(count, outcome),
        uncertainty(count, outcome),
        # A sum of squares less the square of a sum may round to just below 0.
        np.maximum(squares - np.square(forecast) / count, 0.0).sum() / n,
        2.0 * (products - forecast * outcome / count).sum() / n,
    )
    return BrierDecomposition(*(float(part) for part in parts))


def top_k_accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float:
    """Returns the share of examples whose label is among the k classes with the largest logits.

    Among equal logits the lower class comes first, so k = 1 gives the accuracy of argmax.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is {k!r}; expected a whole number of at least 1")
    from mixup_jax.metrics.compiled_losses import classes_ahead

    array, checked = table_of_logits(logits), check_all_labelled(logits, labels)

    def hits(rows: slice) -> int:
        block, ahead = plain_rows(array[rows]), np.empty(rows.stop - rows.start, np.int64)
        if not classes_ahead(block, plain(checked[rows], np.int64), ahead):
            check_logits(array)
        return int(np.count_nonzero(ahead < k))

    return sum(in_threads(hits, parts_of(array))) / len(checked)
