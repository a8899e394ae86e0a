"""Accuracy among the k most probable classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.blocks import blocks
from mixup_jax.metrics.scores import check_labelled


def top_k_accuracy(logits: npt.ArrayLike, labels: npt.ArrayLike, k: int) -> float:
    """Returns the share of examples whose label is among the k classes with the largest logits.

    Of equal logits the class of the lower number comes first, so k = 1 is the accuracy of argmax.

    Args:
      logits: `[N, K]`.
      labels: `[N]`, 0 to K - 1.
      k: at least 1; from K on the result is 1.

    Raises:
      InputError: as `scores.check_labelled`, or k is below 1.
    """
    if k < 1:
        raise InputError(f"k is {k}; expected at least 1")
    logits, labels = check_labelled(logits, labels)
    # A few rows at a time: the logits may be a file that is larger than memory.
    hits = sum(_hits(logits[rows], labels[rows], k) for rows in blocks(*logits.shape))
    return hits / len(labels)


def _hits(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], k: int) -> int:
    of_label = np.take_along_axis(logits, labels[:, None], axis=1)
    ahead = np.count_nonzero(logits > of_label, axis=1)
    ahead += np.count_nonzero((logits == of_label) & (np.arange(logits.shape[1]) < labels[:, None]), axis=1)
    return int(np.count_nonzero(ahead < k))
