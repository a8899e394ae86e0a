"""Numbers that are none: noticed, and passed over where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixup_jax.config import Config
from mixup_jax.errors import InputError


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
