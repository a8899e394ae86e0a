"""Dropout whose masks belong to the examples, so that a run is the same on any number of devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, keys: jax.Array | None, *, rate: float, layer: int) -> jax.Array:
    """Returns `x` with every element zeroed with probability `rate` and the others divided by 1 - rate.

    The expectation over keys is `x` (Srivastava et al., JMLR 2014, in the inverted form that needs no change at
    test time). A row's mask is a function of its key, the layer and the shape of a row: neither of the batch
    nor of the rows around it.

    Args:
      x: `[B, ...]`.
      keys: typed PRNG keys `[B]`, one a row; None is no dropout.
      rate: in [0, 1); 0 is no dropout.
      layer: the index of the layer in its network, folded into the keys so that layers draw apart.

    Raises:
      ValueError: there are not as many keys as rows.
    """
    if keys is None or rate == 0:
        return x
    if keys.shape != x.shape[:1]:
        raise ValueError(f"dropout got keys of shape {keys.shape} for rows of shape {x.shape}; expected {x.shape[:1]}")

    def keep(key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, x.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), jnp.zeros((), x.dtype))
