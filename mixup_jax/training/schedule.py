"""The learning rate as a function of the step."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from mixup_jax.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, *, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of step s (counted from 0), for a run of `epochs` epochs.

    "steps": learning_rate * step_factor^(number of step_epochs that have passed).
    "cosine": learning_rate * (1 + cos(pi * s / S)) / 2, S being all steps of the run.
    A warm-up of w epochs multiplies either by min(1, (s + 1) / (w * steps_per_epoch)).
    """
    if config.schedule == "cosine":
        decay = optax.cosine_decay_schedule(config.learning_rate, epochs * steps_per_epoch)
    else:
        boundaries = {epoch * steps_per_epoch: config.step_factor for epoch in config.step_epochs}
        decay = optax.piecewise_constant_schedule(config.learning_rate, boundaries)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    if not warmup_steps:
        return decay
    return lambda step: decay(step) * jnp.minimum(1.0, (step + 1) / warmup_steps)
