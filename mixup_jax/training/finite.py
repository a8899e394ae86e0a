"""Numbers that are none: noticed, and passed over where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixup_jax.config import Config
from mixup_jax.errors import InputError
from mixup_jax.state import Batch, TrainState
from mixup_jax.training.step import Metrics, TrainStep


def skipping(train_step: TrainStep) -> TrainStep:
    """Returns a step that keeps the state from before it where its loss or the new state is not finite.

    Such a step counts as taken, so the order of the data is what it would have been.  Its metrics are 0,
    and `skipped` is 1; of every other step `skipped` is 0.

    Args:
      train_step: pure; under a mapped axis its loss and state must be the same on every device.
    """

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        new, metrics = train_step(state, batch, key)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((new, metrics["loss"]))]))
        kept = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)
        counted = {name: jnp.where(finite, value, 0) for name, value in metrics.items()}
        return kept._replace(step=new.step), counted | {"skipped": 1.0 - finite}

    return step


def check_losses(config: Config, losses: Sequence[Any], last_step: int) -> None:
    """Checks that the losses of consecutive steps are finite.

    Args:
      config: of the run, whose suspects the message names.
      losses: one scalar a step.
      last_step: the number of the last of them, counted from 1.

    Raises:
      InputError: one is not; the message names the first such step.
    """
    finite = np.isfinite(np.asarray(losses, np.float64))
    if finite.all():
        return
    index = int(np.argmin(finite))
    raise InputError(
        f"the loss is {float(losses[index])} at step {last_step - len(losses) + 1 + index}; the last checkpoint is "
        f"good and kept. Suspects: optimizer.learning_rate {config.optimizer.learning_rate:g} (lower it, or raise "
        f"optimizer.warmup_epochs), model.dtype {config.model.dtype}, the data {config.data.name}; or pass over such "
        "steps with --config.on_nan=skip"
    )
