"""The first state of a run, and the random keys it draws from."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mixup_jax.records import TrainState


class RunKeys(NamedTuple):
    """One random key for each purpose, so that no two draws can be related.

    None of them changes during a run: what is drawn at a step is a function of the key and the
    step's number, so there is no random state to save or to lose.
    """

    init: jax.Array
    order: jax.Array
    augment: jax.Array
    step: jax.Array


def run_keys(seed: int) -> RunKeys:
    """Returns the keys of the run with this seed."""
    return RunKeys(*jax.random.split(jax.random.key(seed), len(RunKeys._fields)))


def create_state(
    model: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array, image_shape: tuple[int, int, int]
) -> TrainState:
    """Returns the state at step 0.

    Args:
      model: the network.
      optimizer: whose state is created for the network's parameters.
      key: of the initialisation.
      image_shape: `(H, W, C)` of one input.
    """

    def initialise(key: jax.Array) -> TrainState:
        variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
        params = variables["params"]
        return TrainState(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), optimizer.init(params))

    return jax.jit(initialise)(key)


def parameter_count(state: TrainState) -> int:
    """Returns the number of trained scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))
