"""A training set that stays on the device, and the batch of any step as a pure function of its number."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mixup_jax.data import augment
from mixup_jax.state import Batch


class Resident(NamedTuple):
    """All training examples, on the device.

    Attributes:
      inputs: images uint8 `[N, H, W, C]`, or tokens int32 `[N, L]`.
      labels: int32 `[N]`.
    """

    inputs: jax.Array
    labels: jax.Array


def epoch_order(key: jax.Array, epoch: int, examples: int) -> jax.Array:
    """Returns the order in which an epoch (counted from 0) visits the examples: int32 `[examples]`.

    A function of (key, epoch) alone: there is no shuffle state.
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), examples)


def batch_rows(order: jax.Array, step: jax.Array, batch_size: int) -> jax.Array:
    """Returns the positions of the examples of a step: int32 `[batch_size]`.

    The last examples of an epoch's order, too few for a whole batch, are left out of that epoch;
    the next order leaves out others.

    Args:
      order: of the epoch that the step belongs to.
      step: the optimiser step, counted from 0 over the whole run.
      batch_size: B, at most `order`'s length.
    """
    position = step % (order.shape[0] // batch_size)
    return jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)


def gather_batch(resident: Resident, rows: jax.Array, crops: augment.Crops | None, *, padding: int) -> Batch:
    """Returns the batch of the given rows, augmented unless `crops` is None, every example with weight 1."""
    inputs = resident.inputs[rows]
    if crops is not None:
        inputs = augment.transform(inputs, crops, padding=padding)
    return Batch(inputs, resident.labels[rows], jnp.ones(rows.shape, jnp.float32))
