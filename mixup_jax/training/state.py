"""The first state of a run, and the random keys it draws from."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from mixup_jax.libraries import fast_to_compile
from mixup_jax.models import init_variables
from mixup_jax.state import TrainState


def create_state(
    model: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array, input_shape: tuple[int, ...]
) -> TrainState:
    """Returns the state at step 0.

    Args:
      model: the network.
      optimizer: whose state is created for the network's parameters.
      key: of the initialisation.
      input_shape: of one input: `(H, W, C)` of an image, `(L,)` of the tokens of a text.
    """
    initialise = partial(initial_state, model, optimizer, input_shape=input_shape)
    return jax.jit(initialise, compiler_options=fast_to_compile(jax.default_backend()))(key)


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array, *, input_shape: tuple[int, ...]
) -> TrainState:
    """Returns what `create_state` does, to be compiled or, under `jax.eval_shape`, for its shapes."""
    variables = init_variables(model, key, input_shape)
    opt_state = optimizer.init(variables["params"])
    return TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], opt_state)


def with_embedding(state: TrainState, table: npt.NDArray[np.float32]) -> TrainState:
    """Returns a text network's first state with these word vectors, `[V, E]`, in place of the drawn ones."""
    return state._replace(params={**state.params, "embedding": {"embedding": jnp.asarray(table)}})


def parameter_count(state: TrainState) -> int:
    """Returns the number of trained scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))
