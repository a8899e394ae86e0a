"""Batch statistics measured anew on clean examples, in place of the running averages of training.

Training on mixed inputs leaves running means and variances of mixed activations, while test examples are
clean.  The parameters stay; the statistics become those of clean training examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.models.layers import BATCH_NORM_MOMENTUM


def clean_statistics(
    model: nn.Module,
    variables: Mapping[str, Any],
    standardise: Callable[[jax.Array], jax.Array],
    images: npt.NDArray[Any],
    *,
    batch_size: int,
) -> Any:
    """Returns batch statistics as the mean and variance over all the examples given, a tree like `batch_stats`.

    Each normalisation sees what comes out of the ones below it normalised by their batch.  Over batches of
    n_b examples with means m_b and variances v_b,

        mean = sum_b n_b m_b / N        variance = sum_b n_b (v_b + m_b^2) / N - mean^2

    so every example counts alike, which a running average does not allow.

    Args:
      model: the network, with this package's batch normalisation.
      variables: `params` and `batch_stats` (of which only the shapes count).
      standardise: maps pixels to the network's inputs.
      images: clean, not augmented, `[N, ...]`.
      batch_size: most examples a batch; the batches differ by at most one.

    Raises:
      InputError: the network has no batch normalisation.
    """
    if not jax.tree.leaves(variables["batch_stats"]):
        raise InputError(
            "the network has no batch normalisation, whose statistics could be measured anew; "
            "expected a checkpoint of one that has"
        )
    # From zero, one update is the batch's statistic times 1 - momentum.
    zero = {"params": variables["params"], "batch_stats": jax.tree.map(jnp.zeros_like, variables["batch_stats"])}

    @jax.jit
    def moments(inputs: jax.Array) -> Any:
        _, updates = model.apply(zero, standardise(inputs), train=True, mutable=["batch_stats"])
        statistics = jax.tree.map(lambda moved: moved / (1 - BATCH_NORM_MOMENTUM), updates["batch_stats"])
        return _each_layer(statistics, lambda mean, var: {"mean": mean, "var": var + mean**2})

    total = jax.tree.map(np.zeros_like, jax.device_get(zero["batch_stats"]))
    for batch in np.array_split(images, -(-len(images) // batch_size)):
        share = len(batch) / len(images)
        total = jax.tree.map(lambda sum_, part, share=share: sum_ + share * np.asarray(part), total, moments(batch))
    return _each_layer(total, lambda mean, square: {"mean": mean, "var": square - mean**2})


def _each_layer(statistics: Mapping[str, Any], change: Callable[[Any, Any], dict[str, Any]]) -> dict[str, Any]:
    """Returns the tree with `change(mean, var)` in the place of every layer's two arrays."""
    if "mean" in statistics:
        return change(statistics["mean"], statistics["var"])
    return {name: _each_layer(below, change) for name, below in statistics.items()}
