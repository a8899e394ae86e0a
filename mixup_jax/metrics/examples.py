"""What has to be known of each example: a few numbers instead of a row of logits.

One pass over the logits, a block of rows at a time: whatever is measured afterwards needs vectors of length
N only, so the logits may lie in a memory-mapped file that is larger than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.blocks import blocks, in_threads
from mixup_jax.metrics.logits import UNLABELLED, check_labels, check_logits
from mixup_jax.metrics.ood_scores import entropy_of_others, max_logit_score
from mixup_jax.metrics.posthoc import check_temperature
from mixup_jax.metrics.proper import brier_of_each, nll_of_each
from mixup_jax.metrics.scores import Bools, Floats, Ints, max_probability, msp_of_others, shifted_block


@dataclass(frozen=True, eq=False)
class Examples:
    """Vectors with one entry for each of N examples.

    Attributes:
      confidence: float64, the largest softmax probability, in [1/K, 1].
      msp: float64, `msp_score`: log(1 - confidence), without its ties at confidence 1.
      entropy: float64, `entropy_score`: the logarithm of the entropy.
      energy: float64, `energy_score` with its temperature 1.
      max_logit: float64, `max_logit_score`.
      labelled: bool, whether the example has a label; where not, the next three are False, NaN and NaN.
      correct: bool, whether the class of the largest logit (of equal ones the first) is the label.
      log_likelihood: float64, log p[label], at most 0; -inf where the label was declared impossible.
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

    def only_labelled(self) -> Examples:
        """Returns the examples that have a label, in their order."""
        if self.labelled.all():
            return self
        return Examples(*(getattr(self, field.name)[self.labelled] for field in fields(self)))


def joined(parts: Sequence[Examples]) -> Examples:
    """Returns the examples of all parts (at least one), in their order."""
    return Examples(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Examples)))


def examine(logits: npt.ArrayLike, labels: npt.ArrayLike | None = None, temperature: float = 1.0) -> Examples:
    """Returns the `Examples` of softmax(logits / temperature), reading a block of rows at a time.

    Beyond the logits it takes about 70 bytes an example and a few blocks, whatever K is.  Every entry is a
    function of its own row, so the size of a block changes nothing.

    Args:
      logits: floating point `[N, K]`; may be memory-mapped.
      labels: integer `[N]` in [-1, K); None where no example has one.
      temperature: a finite number above 0.

    Raises:
      InputError: the arrays break what `records.Predictions` promises, or a logit divided by the temperature
        exceeds float64.
    """
    checked = check_logits(np.asarray(logits))
    n, classes = checked.shape
    given = np.full(n, UNLABELLED) if labels is None else check_labels(np.asarray(labels), n, classes)
    check_temperature(temperature)
    out = Examples(
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
        with np.errstate(over="ignore"):  # refused in the block
            scaled = checked[rows].astype(np.float64) / temperature
        _examine_block(scaled, given[rows], out, rows)

    in_threads(work, list(blocks(n, classes)))
    return out


def _examine_block(logits: Floats, labels: npt.NDArray[np.integer], out: Examples, rows: slice) -> None:
    top: Ints = logits.argmax(axis=1)
    if not np.isfinite(logits[np.arange(len(logits)), top]).all():
        raise InputError("logits divided by the temperature exceed float64; expected logits of magnitude below 1e300")
    out.confidence[rows] = max_probability(logits)
    others = shifted_block(logits, logits, ascending=True)[:-1]  # sorted once for three scores
    out.msp[rows] = msp_of_others(others)
    out.entropy[rows] = entropy_of_others(others)
    out.max_logit[rows] = max_logit_score(logits)
    out.energy[rows] = out.max_logit[rows] - np.log1p(np.exp(others).sum(axis=0))
    labelled = labels != UNLABELLED
    some_class = np.maximum(labels, 0)  # of an example without a label; what follows from it is discarded
    out.correct[rows] = top == labels
    out.log_likelihood[rows] = np.where(labelled, -nll_of_each(logits, some_class), np.nan)
    out.brier[rows] = np.where(labelled, brier_of_each(logits, some_class), np.nan)
