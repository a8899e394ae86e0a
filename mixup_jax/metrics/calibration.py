"""Calibration by confidence bins: the sufficient statistic, and the numbers that are views of it.

Bins are right-closed, ((m-1)/M, m/M], and 0 belongs to the first.  Sums are merged, means never
averaged.  Equations: Guo et al. (2017, arXiv:1706.04599) and Thulasidasan et al. (2019,
arXiv:1905.11001, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics.binning import CellSums, bin_edges, cell_sums, check_outcomes, vectors
from mixup_jax.metrics.blocks import in_threads, rows_of
from mixup_jax.metrics.scores import Floats, Ints

NORMS = ("l1", "l2", "max")
_BLOCK = 1 << 18  # examples binned at a time: as many as take longer than to start a thread


@dataclass(frozen=True, eq=False)
class Bins:
    """How many examples fell into each bin of confidence, how sure they were, and how often right.

    Attributes:
      edges: float64 `[M + 1]`, from 0 to 1; bin m is (edges[m], edges[m + 1]], the first also holds 0.
        Equally wide (`bin_confidences`) or not (`bin_equal_mass`).
      count: int64 `[M]`, examples.
      confidence_sum: float64 `[M]`, sum of their confidences.
      correct_sum: float64 `[M]`, how many of them were classified correctly.

    Raises:
      InputError: the lengths do not fit together.
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
        """Returns `n_bins` equally wide bins without examples: neutral for `merge`."""
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
        """Returns the bins of both sets of examples together; associative up to rounding.

        Raises:
          InputError: the edges differ.
        """
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

    Args:
      confidence: `[N]` in [0, 1]; N = 0 gives empty bins.
      correct: bool `[N]`.
      n_bins: M >= 1.

    Raises:
      InputError: the arrays are malformed (see `check_confidences`) or `n_bins` is below 1.
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


def _examples(bins: Bins) -> int:
    if bins.n == 0:
        raise InputError("bins hold no examples; expected at least one")
    return bins.n


def calibration_error(count: Ints, confidence_sum: Floats, correct_sum: Floats, norm: str = "l1") -> Floats:
    """Returns `ece` for each set of bins along the last axis: arrays `[..., M]` in, float64 `[...]` out."""
    gap_sum = np.abs(correct_sum - confidence_sum)
    if norm == "l1":
        error = gap_sum.sum(axis=-1) / count.sum(axis=-1)
    elif norm == "l2":
        error = np.sqrt((np.square(gap_sum) / np.maximum(count, 1)).sum(axis=-1) / count.sum(axis=-1))
    elif norm == "max":
        error = (gap_sum / np.maximum(count, 1)).max(axis=-1)
    else:
        raise unknown_name("norm", norm, NORMS)
    return np.asarray(error, np.float64)


def ece(bins: Bins, norm: str = "l1") -> float:
    """Returns the expected calibration error, `sum_m n_m/n |acc_m - conf_m|`, in [0, 1]; empty bins add 0.

    Source: Guo et al. (2017), equation 3.

    Args:
      bins: equally wide (`bin_confidences`) or of equal mass (`bin_equal_mass`).
      norm: "l1", the above; "l2", `sqrt(sum_m n_m/n (acc_m - conf_m)^2)` (Kumar et al., 2019), which
        weighs large gaps more and is never below "l1"; or "max", the largest gap, which is `mce`.

    Raises:
      InputError: there are no examples, or no such norm.
    """
    _examples(bins)
    return float(calibration_error(bins.count, bins.confidence_sum, bins.correct_sum, norm))


class Direction(NamedTuple):
    """The two parts of ECE: `over + under` is ECE, `over - under` is mean confidence minus accuracy."""

    over: float
    under: float


def ece_direction(bins: Bins) -> Direction:
    """Returns how much of ECE is over-confidence and how much under-confidence, each in [0, 1].

    `over = sum_m n_m/n max(conf_m - acc_m, 0)` and `under = sum_m n_m/n max(acc_m - conf_m, 0)`.  Unlike
    `oe`, `over` is not weighted by confidence.  Raises InputError without examples.
    """
    _examples(bins)
    sums = bins.count, bins.confidence_sum, bins.correct_sum
    return Direction(float(signed_error(*sums)), float(signed_error(*sums, sign=-1.0)))


def signed_error(count: Ints, confidence_sum: Floats, correct_sum: Floats, sign: float = 1.0) -> Floats:
    """Returns the over-confident part of ECE (with sign -1 the under-confident): `[..., M]` in, float64 `[...]` out."""
    excess = np.maximum(sign * (confidence_sum - correct_sum), 0.0)
    return np.asarray(excess.sum(axis=-1) / count.sum(axis=-1), np.float64)


def oe(bins: Bins) -> float:
    """Returns the overconfidence error, `sum_m n_m/n conf_m max(conf_m - acc_m, 0)`, in [0, ECE].

    Source: Thulasidasan et al. (2019), section 3.  It sees over-confidence only: an under-confident
    network has OE 0 at any ECE.  Raises InputError without examples.
    """
    _examples(bins)
    return float(overconfidence_error(bins.count, bins.confidence_sum, bins.correct_sum))


def overconfidence_error(count: Ints, confidence_sum: Floats, correct_sum: Floats) -> Floats:
    """Returns `oe` for each set of bins along the last axis: arrays `[..., M]` in, float64 `[...]` out."""
    excess = np.maximum(confidence_sum - correct_sum, 0.0)
    error = (confidence_sum / np.maximum(count, 1) * excess).sum(axis=-1) / count.sum(axis=-1)
    return np.asarray(error, np.float64)


def mce(bins: Bins) -> float:
    """Returns the maximum calibration error, `max_m |acc_m - conf_m|` over non-empty bins, in [0, 1].

    Source: Guo et al. (2017), equation 4.  A bin with a single example can decide it.  Raises
    InputError without examples.
    """
    return ece(bins, norm="max")


def confidence_minus_accuracy(bins: Bins) -> float:
    """Returns mean confidence minus accuracy over all examples, in [-1, 1]; positive = over-confident.

    It does not depend on the bins.  Raises InputError without examples.
    """
    n = _examples(bins)
    return float(bins.confidence_sum.sum() - bins.correct_sum.sum()) / n
