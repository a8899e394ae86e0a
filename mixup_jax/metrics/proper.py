"""Proper scoring rules: numbers that only the true probabilities minimise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics.scores import Floats, check_all_labelled, shifted_blocks


def nll(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the negative log-likelihood, `-mean_i log p_i[y_i]`, in nats, at least 0.

    Infinite when the true class of an example is impossible (its logit is -inf).

    Args:
      logits: floating point `[N, K]`.
      labels: integer `[N]` in [0, K).

    Raises:
      InputError: the arrays are malformed or an example has no label.
    """
    return float(nll_of_each(logits, labels).mean())


def brier(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the Brier score, `mean_i sum_k (p_ik - 1[k = y_i])^2`, in [0, 2].

    The sum over classes is Brier's own definition (1950); some libraries divide it by K or, for two
    classes, by 2.

    Args:
      logits: floating point `[N, K]`.
      labels: integer `[N]` in [0, K).

    Raises:
      InputError: the arrays are malformed or an example has no label.
    """
    return float(brier_of_each(logits, labels).mean())


def nll_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Returns `-log p_i[y_i]` of every example, float64 `[N]` in [0, inf]: what `nll` is the mean of.

    Raises:
      InputError: as `nll`.
    """
    checked = check_all_labelled(logits, labels)
    loss = np.empty(len(checked))
    for rows, shifted in shifted_blocks(logits):
        true = shifted[checked[rows], np.arange(shifted.shape[1])]
        loss[rows] = np.log(np.exp(shifted, out=shifted).sum(axis=0)) - true
    return loss


def brier_of_each(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """Returns `sum_k (p_ik - 1[k = y_i])^2` of every example, float64 `[N]` in [0, 2]: what `brier` is the mean of.

    Raises:
      InputError: as `brier`.
    """
    checked = check_all_labelled(logits, labels)
    loss = np.empty(len(checked))
    for rows, probability in shifted_blocks(logits):
        np.exp(probability, out=probability)
        probability /= probability.sum(axis=0)
        probability[checked[rows], np.arange(probability.shape[1])] -= 1.0
        loss[rows] = np.square(probability, out=probability).sum(axis=0)
    return loss
