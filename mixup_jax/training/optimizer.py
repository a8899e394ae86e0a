"""The optimisers: gradient descent, Adadelta and Adam, with weight decay and a bound on the last layer's weights."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from mixup_jax.config import OptimizerConfig

HEAD = "head"
"""The name of the last layer's parameters in every network."""


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimiser that a config describes.

    Weight decay joins the gradient of every parameter first (g + wd * p), and the learning rate
    multiplies last: the form of the paper's framework.  "adadelta" is Zeiler's (2012), rho = 0.95 and
    epsilon = 1e-6, as Kim (EMNLP 2014) has it; its own learning rate is 1.  "adam" has the usual
    constants (0.9, 0.999, 1e-8), and L2 regularisation, not decoupled decay.

    Args:
      config: of the optimiser.
      schedule: learning rate by step.
    """
    steps = {
        "sgd": optax.sgd(schedule, momentum=config.momentum or None, nesterov=config.nesterov),
        "adadelta": optax.adadelta(schedule, rho=0.95, eps=1e-6),
        "adam": optax.adam(schedule),
    }
    optimizer = optax.chain(optax.add_decayed_weights(config.weight_decay), steps[config.name])
    return optax.chain(optimizer, bounded_head(config.max_norm)) if config.max_norm else optimizer


def bounded_head(max_norm: float) -> optax.GradientTransformation:
    """Returns what shortens an update so that no class's weight vector of the last layer is longer than `max_norm`.

    After the update, a column w of the kernel `[D, K]` with |w| > max_norm becomes w * max_norm / |w|
    (Hinton et al. 2012, section 2; Kim 2014, section 3.1).  Biases are left alone.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any) -> tuple[Any, optax.EmptyState]:
        kernel = params[HEAD]["kernel"]
        wanted = kernel + updates[HEAD]["kernel"]
        length = jnp.linalg.norm(wanted, axis=0)
        bounded = wanted * jnp.minimum(1.0, max_norm / jnp.maximum(length, max_norm / 2))
        return {**updates, HEAD: {**updates[HEAD], "kernel": bounded - kernel}}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
