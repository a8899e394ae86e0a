"""A few numbers for each example, instead of its row of logits.

They are made in one pass over the logits, a block of rows at a time.  Later measurements need only these vectors of
length N, so the logits may be a memory-mapped file that is larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import Bins, bin_confidences
from mixup_jax.metrics.logits import UNLABELLED, blocks, check_labels, check_logits, in_threads, rows_of
from mixup_jax.metrics.ood_scores import Others, entropy_of_others, msp_of_others, others_of_rows
from mixup_jax.metrics.proper import brier_of_sums
from mixup_jax.metrics.smooth import Residuals, residuals
from mixup_jax.metrics.softmax import Bools, Floats, Ints, confidence_and_correct_of, table_of_logits
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
    array = table_of_logits(logits)
    n, classes = array.shape
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
        read = [_read(array[part], given[part], temperature, array) for part in _parts_of(rows, classes)]
        of_rows = _Rows(*map(np.concatenate, zip(*read, strict=True)))
        _examine(of_rows, out, rows)

    in_threads(work, list(rows_of(n, _ROWS)))
    return out


_ROWS = 4096  # examples whose few numbers are computed together


def _parts_of(rows: slice, classes: int) -> Iterator[slice]:
    for part in blocks(rows.stop - rows.start, classes):
        yield slice(rows.start + part.start, rows.start + part.stop)


class _Rows(NamedTuple):
    """What is read from rows of logits: `[rows]` each, the last four the fields of `Others`."""

    labels: npt.NDArray[np.integer]
    top: Ints
    largest: Floats
    of_label: Floats
    confidence: Floats
    gap: Floats
    total: Floats
    squares: Floats
    spread: Floats


def _read(
    logits: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    temperature: float,
    whole: npt.NDArray[np.floating],
) -> _Rows:
    """Returns what is read from a block of rows; an error gives the position of a row in `whole`."""
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        scaled = logits.astype(np.float64)
        if temperature != 1.0:
            scaled /= temperature
    top, each = scaled.argmax(axis=1), np.arange(len(scaled))
    largest = scaled[each, top]
    if not np.isfinite(largest).all():
        check_logits(whole)
        raise InputError("logits divided by the temperature exceed float64; expected logits of magnitude below 1e300")
    some_class = np.maximum(labels, 0)  # class 0 stands in for a missing label; its results are discarded
    confidence, _ = confidence_and_correct_of(scaled, some_class, whole)
    return _Rows(labels, top, largest, scaled[each, some_class], confidence, *others_of_rows(scaled))


def _examine(read: _Rows, out: Examined, rows: slice) -> None:
    out.confidence[rows] = read.confidence
    others = Others(read.gap, read.total, read.squares, read.spread)  # once for all scores and losses
    log_total = np.log1p(others.beside_one)  # log(sum_k exp(z_k)) - max_k z_k
    out.msp[rows] = msp_of_others(others)
    out.entropy[rows] = entropy_of_others(others)
    out.max_logit[rows] = -read.largest
    out.energy[rows] = out.max_logit[rows] - log_total
    labelled = read.labels != UNLABELLED
    out.correct[rows] = read.top == read.labels
    with np.errstate(over="ignore"):  # a gap that overflows becomes -inf, an impossible class
        below = read.of_label - read.largest
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
