"""A few numbers for each example, instead of its row of logits.

They are made in one pass over the logits, a block of rows at a time.  Later measurements need only these vectors of
length N, so the logits may be a memory-mapped file that is larger than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import Bins, bin_confidences
from mixup_jax.metrics.logits import UNLABELLED, blocks, check_labels, check_logits, in_threads
from mixup_jax.metrics.ood_scores import entropy_of_others, msp_of_others, others_of_rows
from mixup_jax.metrics.proper import brier_of_sums
from mixup_jax.metrics.smooth import Residuals, residuals
from mixup_jax.metrics.softmax import Bools, Floats, Ints, max_probability
from mixup_jax.metrics.temperature import check_temperature


@dataclass(frozen=True, eq=False)
class Examined:
    """Vectors with one entry for each of N examples.

    Attributes:
      confidence: float64, the largest softmax probability, in [1/K, 1].
      msp: float64, `msp_score`: log(1 - confidence), which tells apart confidences that round to 1.
      entropy: float64, `entropy_score`: the logarithm of the entropy.
      energy: float64, `energy_score` with its temperature 1.
      max_logit: float64, `max_logit_score`.
      labelled: bool, whether the example has a label; if not, the next three are False, NaN and NaN.
      correct: bool, whether the class of the largest logit (of equal ones the first) is the label.
      log_likelihood: float64, log p[label], at most 0; -inf where the logit of the label is -inf.
      brier: float64, `sum_k (p_k - 1[k = label])^2`, in [0, 2].
    """

    confidence: Floats
    msp: Floats
    entropy: Floats
    energy: Floats
    max_logit: Floats
    labelled: Bools
    correct: Bools
    log_likelihood: Floats
    brier: Floats

    def __len__(self) -> int:
        return len(self.confidence)

    def only_labelled(self) -> Examined:
        """Returns the examples that have a label, in their order."""
        if self.labelled.all():
            return self
        return Examined(*(getattr(self, field.name)[self.labelled] for field in fields(self)))


def joined(parts: Sequence[Examined]) -> Examined:
    """Returns the examples of all parts (at least one), in their order."""
    return Examined(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Examined)))


def examine(logits: npt.ArrayLike, labels: npt.ArrayLike | None = None, temperature: float = 1.0) -> Examined:
    """Returns the `Examined` of softmax(logits / temperature), reading a block of rows at a time.

    Besides the logits it needs about 70 bytes for each example and a few blocks, whatever K is.  Every entry
    depends on its own row only, so the size of a block does not change the result.
    """
    checked = check_logits(np.asarray(logits))
    n, classes = checked.shape
    given = np.full(n, UNLABELLED) if labels is None else check_labels(np.asarray(labels), n, classes)
    check_temperature(temperature)
    out = Examined(
        confidence=np.empty(n),
        msp=np.empty(n),
        entropy=np.empty(n),
        energy=np.empty(n),
        max_logit=np.empty(n),
        labelled=given != UNLABELLED,
        correct=np.empty(n, bool),
        log_likelihood=np.empty(n),
        brier=np.empty(n),
    )

    def work(rows: slice) -> None:
        with np.errstate(over="ignore"):  # `_examine_block` refuses infinities
            scaled = checked[rows].astype(np.float64)
            if temperature != 1.0:
                scaled /= temperature
        _examine_block(scaled, given[rows], out, rows)

    in_threads(work, list(blocks(n, classes)))
    return out


def _examine_block(logits: Floats, labels: npt.NDArray[np.integer], out: Examined, rows: slice) -> None:
    top: Ints = logits.argmax(axis=1)
    if not np.isfinite(logits[np.arange(len(logits)), top]).all():
        raise InputError("logits divided by the temperature exceed float64; expected logits of magnitude below 1e300")
    out.confidence[rows] = max_probability(logits)
    others = others_of_rows(logits)  # once for all scores and losses
    log_total = np.log1p(others.beside_one)  # log(sum_k exp(z_k)) - max_k z_k
    out.msp[rows] = msp_of_others(others)
    out.entropy[rows] = entropy_of_others(others)
    each = np.arange(len(logits))
    largest = logits[each, top]
    out.max_logit[rows] = -largest
    out.energy[rows] = out.max_logit[rows] - log_total
    labelled = labels != UNLABELLED
    some_class = np.maximum(labels, 0)  # class 0 stands in for a missing label; its results are discarded below
    out.correct[rows] = top == labels
    with np.errstate(over="ignore"):  # a gap that overflows becomes -inf, an impossible class
        below = logits[each, some_class] - largest
    out.log_likelihood[rows] = np.where(labelled, below - log_total, np.nan)
    squares = np.exp(2.0 * others.gap) * others.squares
    brier = brier_of_sums(others.beside_one, squares, np.exp(below), below == 0.0)
    out.brier[rows] = np.where(labelled, brier, np.nan)


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over a set of labelled examples, whose size does not depend on the number of examples.

    Attributes:
      n: examples.
      correct: how many of them were classified correctly.
      log_likelihood_sum: sum of log p[label], at most 0; -inf if the logit of a label is -inf.
      brier_sum: sum of the examples' Brier scores.
      confidence_sum: sum of their confidences.
      residuals: the `Residuals` from which their smooth ECE is computed.
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
        """Returns the tally of no examples, the neutral element of `merge`."""
        return cls(0, 0, 0.0, 0.0, 0.0, residuals([], []), tuple(Bins.empty(bins) for bins in n_bins))

    def merge(self, other: Tally) -> Tally:
        """Returns the tally of both sets of examples together; associative up to rounding."""
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
    """Returns the `Tally` of the labelled examples among these, for softmax(logits / temperature)."""
    return tally_examples(examine(logits, labels, temperature), n_bins)


def tally_examples(examples: Examined, n_bins: Sequence[int] = (15, 100)) -> Tally:
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
