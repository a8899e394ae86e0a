"""The sums that accuracy, proper scores and calibration are views of: added up over parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.calibration import Bins, bin_confidences
from mixup_jax.metrics.examples import Examples, examine
from mixup_jax.metrics.smooth import Residuals, residuals


@dataclass(frozen=True, eq=False)
class Tally:
    """What is left of a set of labelled examples: its size does not depend on theirs.

    Attributes:
      n: examples.
      correct: how many of them were classified correctly.
      log_likelihood_sum: sum of log p[label], at most 0; -inf if a label was declared impossible.
      brier_sum: sum of the examples' Brier scores.
      confidence_sum: sum of their confidences.
      residuals: what their smooth ECE is a view of.
      bins: their `Bins`, one for each number of bins.
    """

    n: int
    correct: int
    log_likelihood_sum: float
    brier_sum: float
    confidence_sum: float
    residuals: Residuals
    bins: tuple[Bins, ...]

    @classmethod
    def empty(cls, n_bins: Sequence[int] = (15, 100)) -> Tally:
        """Returns the tally of no examples: neutral for `merge`."""
        return cls(0, 0, 0.0, 0.0, 0.0, residuals([], []), tuple(Bins.empty(bins) for bins in n_bins))

    def merge(self, other: Tally) -> Tally:
        """Returns the tally of both sets of examples together; associative up to rounding.

        Raises:
          InputError: the numbers of bins differ.
        """
        if len(self.bins) != len(other.bins):
            raise InputError(
                f"tallies with {len(self.bins)} and {len(other.bins)} sets of bins cannot be merged; expected the same"
            )
        return Tally(
            n=self.n + other.n,
            correct=self.correct + other.correct,
            log_likelihood_sum=self.log_likelihood_sum + other.log_likelihood_sum,
            brier_sum=self.brier_sum + other.brier_sum,
            confidence_sum=self.confidence_sum + other.confidence_sum,
            residuals=self.residuals.merge(other.residuals),
            bins=tuple(mine.merge(theirs) for mine, theirs in zip(self.bins, other.bins, strict=True)),
        )

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return self._mean(self.correct)

    @property
    def nll(self) -> float:
        """Negative log-likelihood in nats, as `metrics.nll`; may be infinite."""
        return 0.0 - self._mean(self.log_likelihood_sum)

    @property
    def brier(self) -> float:
        """Brier score, summed over classes, as `metrics.brier`."""
        return self._mean(self.brier_sum)

    @property
    def mean_confidence(self) -> float:
        """Mean of the confidences."""
        return self._mean(self.confidence_sum)

    @property
    def smooth_ece(self) -> float:
        """Smooth ECE, as `metrics.smooth_ece`."""
        return self.residuals.smooth_ece

    def _mean(self, total: float) -> float:
        if self.n == 0:
            raise InputError("the tally holds no examples; expected at least one")
        return total / self.n


def tally(
    logits: npt.ArrayLike, labels: npt.ArrayLike, n_bins: Sequence[int] = (15, 100), temperature: float = 1.0
) -> Tally:
    """Returns the `Tally` of the labelled examples among these, for softmax(logits / temperature).

    Args:
      logits: floating point `[N, K]`; may be memory-mapped, and is read a block of rows at a time.
      labels: integer `[N]` in [-1, K); examples labelled -1 are left out.
      n_bins: numbers of bins M, each >= 1.
      temperature: a finite number above 0.

    Raises:
      InputError: the arrays are malformed (see `records.Predictions`) or a number is out of range.
    """
    return tally_examples(examine(logits, labels, temperature), n_bins)


def tally_examples(examples: Examples, n_bins: Sequence[int] = (15, 100)) -> Tally:
    """Returns the `Tally` of the labelled examples among these."""
    known = examples.only_labelled()
    return Tally(
        n=len(known),
        correct=int(np.count_nonzero(known.correct)),
        log_likelihood_sum=float(known.log_likelihood.sum()),
        brier_sum=float(known.brier.sum()),
        confidence_sum=float(known.confidence.sum()),
        residuals=residuals(known.confidence, known.correct),
        bins=tuple(bin_confidences(known.confidence, known.correct, bins) for bins in n_bins),
    )
