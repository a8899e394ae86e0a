"""Optimisers with weight decay and a bound on the last layer's weights, and learning rate schedules."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mixup_jax.config import OptimizerConfig

HEAD = "head"
"""The name of the last layer's parameters in every network."""


def learning_rate(config: OptimizerConfig, *, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of step s (counted from 0), for a run of `epochs` epochs.

    "steps": learning_rate * step_factor^(number of step_epochs that have passed).
    "cosine": learning_rate * (1 + cos(pi * s / S)) / 2, where S is the number of steps of the run.
    A warm-up of w epochs multiplies either by a + (1 - a) min(1, (s + 1) / (w * steps_per_epoch)), where
    a = warmup_start / learning_rate (Goyal et al. 2017, section 2.2; they start from the rate of one worker).
    """
    if config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(config.learning_rate, epochs * steps_per_epoch)
    else:
        boundaries = {epoch * steps_per_epoch: config.step_factor for epoch in config.step_epochs}
        decay = optax.piecewise_constant_schedule(config.learning_rate, boundaries)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if not warmup_steps:
        return decay
    low = config.warmup_start / config.learning_rate
    return lambda step: decay(step) * (low + (1 - low) * jnp.minimum(1.0, (step + 1) / warmup_steps))


def make_optimizer(config: OptimizerConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimiser that a config describes.

    Weight decay is added to the gradient first (g + wd * p), for every parameter or, without
    `decay_norm_and_bias`, for kernels and embeddings only.  The learning rate multiplies last.  PyTorch, the
    paper's framework, does the same.  "adadelta" is Zeiler's (2012) with rho = 0.95 and epsilon = 1e-6, as in
    Kim (EMNLP 2014); its usual learning rate is 1.  "adam" has the usual constants (0.9, 0.999, 1e-8) and L2
    regularisation, not decoupled decay.
    """
    steps = {
        "sgd": optax.sgd(schedule, momentum=config.momentum or None, nesterov=config.nesterov),
        "adadelta": optax.adadelta(schedule, rho=0.95, eps=1e-6),
        "adam": optax.adam(schedule),
    }
    decayed = None if config.decay_norm_and_bias else _is_weight
    optimizer = optax.chain(optax.add_decayed_weights(config.weight_decay, mask=decayed), steps[config.name])
    return optax.chain(optimizer, bounded_head(config.max_norm)) if config.max_norm else optimizer


class WithClasses(NamedTuple):
    """The state of an optimiser, and which classes are mixed: float32 `[K]`, 1 or 0 (CAMixup)."""

    inner: Any
    mixed: jax.Array


def with_classes(optimizer: optax.GradientTransformation, classes: int) -> optax.GradientTransformation:
    """Returns the same optimiser, whose state also holds which classes are mixed: none until a validation says so."""

    def update(updates: Any, state: WithClasses, params: Any = None) -> tuple[Any, WithClasses]:
        updates, inner = optimizer.update(updates, state.inner, params)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformation(lambda params: WithClasses(optimizer.init(params), jnp.zeros(classes)), update)


def _is_weight(params: Any) -> Any:
    """Returns, for each parameter, False for a bias or a scale of batch normalisation, else True."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in ("bias", "scale"), params)


def bounded_head(max_norm: float) -> optax.GradientTransformation:
    """Returns the transformation that keeps each class's weight vector in the last layer at most `max_norm` long.

    After the update, a column w of the kernel `[D, K]` with |w| > max_norm becomes w * max_norm / |w|
    (Hinton et al. 2012, section 2; Kim 2014, section 3.1).  Biases do not change.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any) -> tuple[Any, optax.EmptyState]:
        kernel = params[HEAD]["kernel"]
        wanted = kernel + updates[HEAD]["kernel"]
        length = jnp.linalg.norm(wanted, axis=0)
        bounded = wanted * jnp.minimum(1.0, max_norm / jnp.maximum(length, max_norm / 2))
        return {**updates, HEAD: {**updates[HEAD], "kernel": bounded - kernel}}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
