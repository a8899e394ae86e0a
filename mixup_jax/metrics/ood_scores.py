"""Out-of-distribution (OOD) scores of examples, computed from their logits.

In every function a higher score means more OOD, as `metrics.auroc` and the others of `detection` expect.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import SUM_TOLERANCE, check_logits
from mixup_jax.metrics.softmax import Floats, shifted_blocks


def msp_score(logits: npt.ArrayLike) -> Floats:
    """Returns the out-of-distribution score of the maximum softmax probability (MSP); higher = more OOD.

    It is log(1 - max_k p_k), a decreasing function of the confidence, so it ranks examples as
    Hendrycks & Gimpel (2017, arXiv:1610.02136) do.  Computed as logsumexp(other classes) -
    logsumexp(all classes), it also ranks confidences that all round to 1.

    Returns:
      float64 `[N]` in [-inf, log(1 - 1/K)]; -inf where every other class is impossible.
    """
    score = np.empty(np.shape(logits)[:1])
    for rows, shifted in shifted_blocks(logits, ascending=True):
        score[rows] = msp_of_others(shifted[:-1])
    return score


def msp_of_others(others: Floats) -> Floats:
    """Returns `msp_score` from the shifted logits of all classes but the largest, ascending, `[K - 1, rows]`."""
    # Exponentials are relative to the second class: relative to the first they may all underflow.
    offset = np.where(np.isneginf(others[-1]), 0.0, others[-1])
    with np.errstate(divide="ignore"):
        log_others = np.log(np.exp(others - offset).sum(axis=0)) + offset
    score: Floats = log_others - np.log1p(np.exp(others).sum(axis=0))
    return score


def entropy_score(logits: npt.ArrayLike) -> Floats:
    """Returns the logarithm of the entropy of each prediction, `log(-sum_k p_k log p_k)`; higher = more OOD.

    It ranks as the entropy in nats (`numpy.exp` of it) does, and keeps ranking predictions so confident that the
    entropy itself would round to 0.  Adding a constant to a row changes nothing.

    Returns:
      float64 `[N]` in [-inf, log(log K)]; -inf where every class but one is impossible.
    """
    score = np.empty(np.shape(logits)[:1])
    for rows, shifted in shifted_blocks(logits, ascending=True):
        score[rows] = entropy_of_others(shifted[:-1])
    return score


def entropy_of_others(others: Floats) -> Floats:
    """Returns `entropy_score` from the shifted logits of all classes but the largest, ascending, `[K - 1, rows]`."""
    offset = np.where(np.isneginf(others[-1]), 0.0, others[-1])
    # The entropy is H = log1p(x) + sum_others(-z_k e^z_k) / (1 + x) with x = e^offset sum(weights).  The code below
    # computes H / e^offset, with log1p(x) / x = 1 where x is too small for float64.
    weights = np.exp(others - offset)
    total = weights.sum(axis=0)
    x = np.exp(offset) * total
    per_x = np.divide(np.log1p(x), x, out=np.ones_like(x), where=x > 0)
    # An impossible class adds 0 to the entropy, but 0 * -inf would be NaN.
    spread = -(weights * np.maximum(others, -np.finfo(np.float64).max)).sum(axis=0)
    with np.errstate(divide="ignore"):
        score: Floats = np.log(total * per_x + spread / (1.0 + x)) + offset
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
    for rows, shifted in shifted_blocks(logits, ascending=True):
        # log1p keeps sums that are small beside the 1 of the largest class.
        score[rows] -= temperature * np.log1p(np.exp(shifted[:-1] / temperature).sum(axis=0))
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
