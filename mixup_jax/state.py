"""What a training step takes and returns: a batch, the state, and the random keys that a run draws from."""

from typing import Any, NamedTuple

import jax


class Batch(NamedTuple):
    """Examples as the network's pipeline takes them, before standardisation and mixing.

    Attributes:
      inputs: images in pixel units, uint8 (or float32) `[B, H, W, C]`, range 0 to 255.
      labels: class indices, int32 `[B]`; `UNLABELLED` (-1) for an example without a label.
      weights: float32 `[B]`, 1 for a real example, 0 for padding.
    """

    inputs: jax.Array
    labels: jax.Array
    weights: jax.Array


class TrainState(NamedTuple):
    """Everything that training changes: what a checkpoint holds.

    Attributes:
      step: int32 scalar, the number of optimiser steps taken.
      params: the network's parameters, a tree of float32 arrays.
      batch_stats: running means and variances of batch normalisation.
      opt_state: the optimiser's state.
      average: the moving average of `params` and `batch_stats`, as a dict; None if there is none.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any = None

    @property
    def trained(self) -> dict[str, Any]:
        """The network that is trained: `params` and `batch_stats`, as flax's `apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def variables(self) -> dict[str, Any]:
        """What prediction needs: the average of the network that is trained or, without one, that network."""
        return self.trained if self.average is None else self.average


class RunKeys(NamedTuple):
    """One random key for each purpose, so that no two draws can be related.

    None of them changes during a run: what is drawn at a step is a function of the key and the
    step's number, so there is no random state to save or to lose.
    """

    init: jax.Array
    order: jax.Array
    augment: jax.Array
    step: jax.Array
    evaluation: jax.Array


def run_keys(seed: int) -> RunKeys:
    """Returns the keys of the run with this seed."""
    return RunKeys(*jax.random.split(jax.random.key(seed), len(RunKeys._fields)))
