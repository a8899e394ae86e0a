"""Out-of-distribution (OOD) scores of examples, computed from their logits.

In every function a higher score means more OOD, as `metrics.auroc` and the others of `detection` expect.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import SUM_TOLERANCE, blocks, check_logits, in_threads
from mixup_jax.metrics.softmax import Floats, plain, table_of_logits


class Others(NamedTuple):
    """Sums over all classes of rows but one of the largest, float64 `[rows]` each, whatever the order of the classes.

    With d_k the logit of a class minus that of the largest of them (at most 0; relative to the largest of all, all
    exponentials might underflow):

    Attributes:
      gap: the logit of the largest of them minus that of the largest of all; 0 if none of them is possible.
      total, squares, spread: the sums of exp(d_k), exp(2 d_k) and -d_k exp(d_k).
    """

    gap: Floats
    total: Floats
    squares: Floats
    spread: Floats

    @property
    def beside_one(self) -> Floats:
        """The sum of their exponentials relative to that of the largest of all."""
        x: Floats = np.exp(self.gap) * self.total
        return x


def others_of_rows(logits: Floats) -> Others:
    """Returns the sums of rows of logits without NaN and +inf."""
    from mixup_jax.metrics.compiled_losses import sums_of_others

    rows, sums = plain(logits, np.float64), np.empty((4, len(logits)))
    sums_of_others(rows, rows.view(np.int64), *sums)
    return Others(*sums)


def _by_block(logits: npt.ArrayLike, temperature: float = 1.0) -> Iterator[tuple[slice, Others]]:
    array = table_of_logits(logits)
    for rows in blocks(*array.shape):
        block = array[rows].astype(np.float64)
        if not np.isfinite(block.max(axis=1)).all():
            check_logits(array)
        yield rows, others_of_rows(block / temperature)


def msp_score(logits: npt.ArrayLike) -> Floats:
    """Returns the out-of-distribution score of the maximum softmax probability (MSP); higher = more OOD.

    It is log(1 - max_k p_k), a decreasing function of the confidence, so it ranks examples as
    Hendrycks & Gimpel (2017, arXiv:1610.02136) do.  Computed as logsumexp(other classes) -
    logsumexp(all classes), it also ranks confidences that all round to 1.

    Returns:
      float64 `[N]` in [-inf, log(1 - 1/K)]; -inf where every other class is impossible.
    """
    score = np.empty(np.shape(logits)[:1])
    for rows, others in _by_block(logits):
        score[rows] = msp_of_others(others)
    return score


def msp_of_others(others: Others) -> Floats:
    """Returns `msp_score` from the sums over all classes but the largest."""
    with np.errstate(divide="ignore"):
        score: Floats = np.log(others.total) + others.gap - np.log1p(others.beside_one)
    return score


def entropy_score(logits: npt.ArrayLike) -> Floats:
    """Returns the logarithm of the entropy of each prediction, `log(-sum_k p_k log p_k)`; higher = more OOD.

    It ranks as the entropy in nats (`numpy.exp` of it) does, and keeps ranking predictions so confident that the
    entropy itself would round to 0.  Adding a constant to a row changes nothing.

    Returns:
      float64 `[N]` in [-inf, log(log K)]; -inf where every class but one is impossible.
    """
    score = np.empty(np.shape(logits)[:1])
    for rows, others in _by_block(logits):
        score[rows] = entropy_of_others(others)
    return score


def entropy_of_others(others: Others) -> Floats:
    """Returns `entropy_score` from the sums over all classes but the largest."""
    # The entropy is H = log1p(x) + sum_others(-z_k e^z_k) / (1 + x), where x and z are relative to the largest class.
    # The code below computes H / e^gap, with log1p(x) / x = 1 where x is too small for float64.
    x = others.beside_one
    per_x = np.divide(np.log1p(x), x, out=np.ones_like(x), where=x > 0)
    spread = others.spread - others.gap * others.total
    with np.errstate(divide="ignore"):
        score: Floats = np.log(others.total * per_x + spread / (1.0 + x)) + others.gap
    return score


GEN_POWER, GEN_CLASSES = 0.1, 100


def gen_score(logits: npt.ArrayLike) -> Floats:
    """Returns the generalised entropy of each prediction, `sum_k p_k^0.1 (1 - p_k)^0.1` over the 100 likeliest classes.

    Source: Liu et al. (2023, GEN, CVPR), with their gamma and M.  Adding a constant to a row changes nothing.
    """
    array = check_logits(np.asarray(logits))
    score = np.empty(len(array))

    def work(rows: slice) -> None:
        # Sorted, so that the order of the classes does not matter to the last bit.
        block = np.sort(array[rows].astype(np.float64), axis=1)
        with np.errstate(over="ignore"):
            others = block[:, :-1] - block[:, -1:]
        rest = np.exp(others).sum(axis=1)
        log_total = np.log1p(rest)
        likeliest = others[:, -(GEN_CLASSES - 1) :] - log_total[:, None]
        likeliest += np.log1p(-np.exp(likeliest))
        with np.errstate(divide="ignore"):
            top = np.log(rest) - 2 * log_total
        score[rows] = np.exp(GEN_POWER * likeliest).sum(axis=1) + np.exp(GEN_POWER * top)

    in_threads(work, list(blocks(*array.shape)))
    return score


def energy_score(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """Returns the free energy of each example, `-T logsumexp_k(z_k / T)`; higher = more OOD.

    Source: Liu et al. (2020, arXiv:2010.03759), equation 4.  **Adding c to a row lowers it by c**: the score
    uses the level of the logits, which softmax ignores, so it means nothing for logarithms of probabilities
    (it is 0 for all of them at T = 1).
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature of the energy is {temperature}; expected a finite number above 0")
    score = max_logit_score(logits)
    for rows, others in _by_block(logits, temperature):
        score[rows] -= temperature * np.log1p(others.beside_one)  # log1p keeps sums that are small beside 1
    return score


def have_level(energy: npt.ArrayLike) -> bool:
    """Returns whether the level of logits with this `energy_score` (temperature 1) has a meaning.

    Energy and max logit use the level.  Log-probabilities have none: their energy is 0, or within the 1 % by which the
    sum of rounded probabilities may differ from 1.  It is very unlikely that a network's own logits are all so close.
    """
    return bool(np.abs(energy).max() > -math.log1p(-SUM_TOLERANCE) + 1e-6)  # of float32


def max_logit_score(logits: npt.ArrayLike) -> Floats:
    """Returns the negative of the largest logit of each row, float64 `[N]`; higher = more OOD.

    Source: Hendrycks et al. (2022, arXiv:1911.11132), section 4.  **Adding c to a row lowers it by c**: see
    `energy_score`.
    """
    score: Floats = -check_logits(np.asarray(logits)).max(axis=1).astype(np.float64)
    return score
