"""What a row of logits says: its probabilities, its confidence, and how foreign the example looks.

Everything is computed in float64 and, where small probabilities matter, in the log domain.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.records import UNLABELLED, check_labels, check_logits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def check_labelled(
    logits: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.int32]]:
    """Returns logits (float32 or wider `[N, K]`, not copied) and labels (int32 `[N]`) after checking both.

    Raises:
      InputError: the arrays break what `records.Predictions` promises, or an example has no label.
    """
    checked_logits = check_logits(np.asarray(logits))
    checked_labels = check_labels(np.asarray(labels), *checked_logits.shape)
    if (checked_labels == UNLABELLED).any():
        count = int((checked_labels == UNLABELLED).sum())
        raise InputError(f"labels contain {count} times -1 (no label); expected a class for every example here")
    return checked_logits, checked_labels


def labelled(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Ints]:
    """Returns logits (float64 `[N, K]`) and labels (int64 `[N]`) after checking both, as `check_labelled` does."""
    checked_logits, checked_labels = check_labelled(logits, labels)
    return checked_logits.astype(np.float64), checked_labels.astype(np.int64)


def shifted_logits(logits: npt.ArrayLike) -> Floats:
    """Returns the logits minus the maximum of their row: float64 `[N, K]`, at most 0, -inf where impossible.

    Raises:
      InputError: wrong shape or dtype, NaN or +inf, or a row that is -inf throughout.
    """
    checked = check_logits(np.asarray(logits)).astype(np.float64)
    # A gap that exceeds float64 is -inf, an impossible class, as it should be.
    with np.errstate(over="ignore"):
        shifted: Floats = checked - checked.max(axis=1, keepdims=True)
    return shifted


def log_softmax(logits: npt.ArrayLike) -> Floats:
    """Returns the logarithms of the class probabilities, `z - logsumexp(z)`, for each row z of `logits`.

    Args:
      logits: floating point `[N, K]`; -inf marks an impossible class.

    Returns:
      float64 `[N, K]`, natural logarithms in [-inf, 0].

    Raises:
      InputError: wrong shape or dtype, NaN or +inf, or a row that is -inf throughout.
    """
    shifted = shifted_logits(logits)
    log_probabilities: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


def max_probability(logits: npt.ArrayLike) -> Floats:
    """Returns the confidence, the largest softmax probability: float64 `[N]` in [1/K, 1].

    Raises:
      InputError: as `log_softmax`.
    """
    # The largest class has shifted logit 0, so its probability is exp(0) / sum.
    confidence: Floats = 1.0 / np.exp(shifted_logits(logits)).sum(axis=1)
    return confidence


def confidence_and_correct(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Returns how sure each prediction is and whether it is right.

    The prediction is the class of the largest logit; among equal ones the first.

    Args:
      logits: floating point `[N, K]`.
      labels: integer `[N]` in [0, K).

    Returns:
      confidence: float64 `[N]` in [1/K, 1], the largest softmax probability.
      correct: bool `[N]`.

    Raises:
      InputError: the arrays are malformed or an example has no label.
    """
    checked_logits, checked_labels = labelled(logits, labels)
    return max_probability(checked_logits), checked_logits.argmax(axis=1) == checked_labels


def msp_score(logits: npt.ArrayLike) -> Floats:
    """Returns the out-of-distribution score of the maximum softmax probability (MSP); higher = more foreign.

    It is log(1 - max_k p_k), a decreasing function of the confidence, so it ranks examples as
    Hendrycks & Gimpel (2017, arXiv:1610.02136) do.  Computed as logsumexp(other classes) -
    logsumexp(all classes), it keeps the order of confidences that all round to 1, which would
    otherwise be ties.

    Args:
      logits: floating point `[N, K]`.

    Returns:
      float64 `[N]` in [-inf, log(1 - 1/K)]; -inf where every other class is impossible.

    Raises:
      InputError: as `log_softmax`.
    """
    shifted = shifted_logits(logits)
    others = shifted.copy()
    others[np.arange(len(others)), shifted.argmax(axis=1)] = -np.inf
    second = others.max(axis=1, keepdims=True)
    # The others get a maximum of their own: relative to the first class they may all underflow.
    offset = np.where(np.isneginf(second), 0.0, second)
    with np.errstate(divide="ignore"):
        log_others = np.log(np.exp(others - offset).sum(axis=1)) + offset[:, 0]
    score: Floats = log_others - np.log1p(np.exp(others).sum(axis=1))
    return score
