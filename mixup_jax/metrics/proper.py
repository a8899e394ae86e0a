"""Proper scoring rules: numbers that only the true probabilities minimise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixup_jax.metrics.scores import labelled, log_softmax


def nll(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Returns the negative log-likelihood, `-mean_i log p_i[y_i]`, in nats, at least 0.

    Infinite when the true class of an example is impossible (its logit is -inf).

    Args:
      logits: floating point `[N, K]`.
      labels: integer `[N]` in [0, K).

    Raises:
      InputError: the arrays are malformed or an example has no label.
    """
    checked_logits, checked_labels = labelled(logits, labels)
    log_likelihood = log_softmax(checked_logits)[np.arange(len(checked_labels)), checked_labels]
    # `0.0 -` instead of a sign: a perfect score is 0, not -0.
    return 0.0 - float(log_likelihood.mean())


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
    checked_logits, checked_labels = labelled(logits, labels)
    residual = np.exp(log_softmax(checked_logits))
    residual[np.arange(len(checked_labels)), checked_labels] -= 1.0
    return float(np.square(residual).sum(axis=1).mean())
