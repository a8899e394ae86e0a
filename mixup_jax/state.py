"""What a training step takes and returns: a batch, mixed or not, and the state; and the random keys of a run."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


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


class Mixed(NamedTuple):
    """How a batch of B examples is mixed in one step; it has R rows: B or, with `clean_weight` or `decouple`, 2B.

    Attributes:
      mix: the function that the network calls at each place.  At place 0 it makes R rows from B; if there are 2B, they
        alternate (example 0 clean, example 0 mixed, example 1 clean, .., or the two mixtures of example 0, ..), so that
        each device keeps its examples.
      targets: float32 `[R, K]`, smoothed and mixed; rows sum to 1.  With `decouple` they belong to the logits after
        `unmix`: that of the example and that of its partner.
      unsmoothed: float32 `[R, K]`, the mixed one-hot labels.
      weights: float32 `[R]`, with the same sum as the batch's weights.
      strength: float32 scalar, the mean of min(lambda, 1 - lambda): 0 without mixing, 1/4 at alpha = 1.
      unmix: maps the network's logits to those that the loss is taken of.
    """

    mix: Callable[[jax.Array, int], jax.Array]
    targets: jax.Array
    unsmoothed: jax.Array
    weights: jax.Array
    strength: jax.Array
    unmix: Callable[[jax.Array], jax.Array] = jnp.asarray


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
