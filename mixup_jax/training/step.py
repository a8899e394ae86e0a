"""The training step: one pure function for every method.

    batch -> standardise -> mix -> network -> loss -> gradient -> new state

A method is numbers (`Method`), never a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mixup_jax import losses, mixup
from mixup_jax.method import Method
from mixup_jax.records import Batch, TrainState

Rows = TypeVar("Rows")
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


class Mixed(NamedTuple):
    """What the network is trained on at one step.

    Attributes:
      inputs: float32 `[B, H, W, C]`.
      targets: float32 `[B, K]`, rows sum to 1.
      strength: float32 scalar, the mean of min(lambda, 1 - lambda): 0 without mixing, 1/4 at alpha = 1.
    """

    inputs: jax.Array
    targets: jax.Array
    strength: jax.Array


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    method: Method,
    *,
    classes: int,
    standardise: Callable[[jax.Array], jax.Array],
    axis_name: str | None = None,
) -> TrainStep:
    """Returns `train_step(state, batch, key) -> (state, metrics)`, pure and ready to be compiled.

    The step draws lambda with `jax.random.beta` from `fold_in(key, state.step)`, so the key of the
    run serves every step and a resumed run draws what it would have drawn.

    Metrics, each a float32 scalar over the global batch: `loss` (what is minimised, nats),
    `accuracy_mixed` (share whose largest logit is the largest target: under mixing this is not
    the accuracy on clean examples, and is far below it), `mixing` (mean of min(lambda, 1 - lambda)).

    Args:
      model: the network; its batch normalisation must know `axis_name` too.
      optimizer: as made by `training.schedule.sgd`.
      method: the numbers of the method.
      classes: K.
      standardise: maps pixels to the network's inputs.
      axis_name: the mapped axis under pmap, where a device gets its rows of the global batch; None
        where the step sees the whole batch (jit).
    """

    def train_step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        mixed = mix_batch(method, batch, jax.random.fold_in(key, state.step), classes, standardise, axis_name)
        total = _sum_over_devices(jnp.sum(batch.weights), axis_name)

        def loss_of(params: object) -> tuple[jax.Array, tuple[jax.Array, object]]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updates = model.apply(variables, mixed.inputs, train=True, mutable=["batch_stats"])
            loss = jnp.sum(batch.weights * example_loss(logits, mixed.targets, method)) / total
            return loss, (logits, updates["batch_stats"])

        (loss, (logits, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        gradient = _sum_over_devices(gradient, axis_name)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        hits = batch.weights * (jnp.argmax(logits, -1) == jnp.argmax(mixed.targets, -1))
        metrics = {
            "loss": _sum_over_devices(loss, axis_name),
            "accuracy_mixed": _sum_over_devices(jnp.sum(hits), axis_name) / total,
            "mixing": mixed.strength,
        }
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return train_step


def mix_batch(
    method: Method,
    batch: Batch,
    key: jax.Array,
    classes: int,
    standardise: Callable[[jax.Array], jax.Array],
    axis_name: str | None = None,
) -> Mixed:
    """Returns standardised, mixed inputs and the method's targets for (a device's rows of) a batch.

    Args:
      method: the numbers of the method.
      batch: all rows of the global batch, or under `axis_name` this device's.
      key: of this step.
      classes: K.
      standardise: maps pixels to the network's inputs.
      axis_name: the mapped axis, if any.
    """
    inputs = standardise(batch.inputs)
    targets = losses.smoothed_one_hot(batch.labels, classes, method.label_smoothing, over=method.smooth_over)
    if not method.mixes:
        return Mixed(inputs, targets, jnp.zeros(()))
    rows = batch.labels.shape[0] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    size = method.group(rows)
    mixing = mixup.draw_mixing(key, rows // size, size, method.mixup_alpha, per_example=method.scope == "example")
    strength = jnp.mean(jnp.minimum(mixing.lam, 1 - mixing.lam))
    # Every device draws for the whole batch, a few numbers a group, and keeps the groups it holds.
    mixing = local_rows(mixing, axis_name)
    mixed_targets = mixup.mix(targets, mixing) if method.mix_labels else mixup.keep_larger(targets, mixing)
    return Mixed(
        mixup.mix(inputs, mixing) if method.mix_inputs else inputs,
        mixed_targets,
        strength,
    )


def example_loss(logits: jax.Array, targets: jax.Array, method: Method) -> jax.Array:
    """Returns cross-entropy - entropy_weight * H(softmax(logits)) per example, in nats, float32 `[B]`."""
    loss = losses.cross_entropy(logits, targets)
    if method.entropy_weight:
        loss = loss - method.entropy_weight * losses.entropy(logits)
    return loss


def local_rows(values: Rows, axis_name: str | None) -> Rows:
    """Returns this device's share of the leading axis of every array; all of it without an axis."""
    if axis_name is None:
        return values
    devices, index = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

    def rows(value: jax.Array) -> jax.Array:
        share = value.shape[0] // devices
        return jax.lax.dynamic_slice_in_dim(value, index * share, share)

    return jax.tree.map(rows, values)


def _sum_over_devices(values: Rows, axis_name: str | None) -> Rows:
    return values if axis_name is None else jax.lax.psum(values, axis_name)
