"""Targets and losses, in float32 or wider."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from mixup_jax.devices.mesh import sum_over_devices
from mixup_jax.errors import InputError
from mixup_jax.methods.method import SMOOTH_OVER, Method

if TYPE_CHECKING:
    from mixup_jax.methods.mixing import Mixed


def batch_loss(
    method: Method, logits: jax.Array, mixed: Mixed, total: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Returns a device's part of the loss of a batch, a scalar in nats; the sum over devices is the loss.

        mean of (cross-entropy - entropy_weight * H(softmax(logits)))  +  arc_weight * (mean confidence - accuracy)^2

    The logits `[R, K]` and the targets, labels and weights of `mixed` are those of this device's rows; `total` is
    the sum of the weights over all devices.
    """
    per_example = cross_entropy(logits, mixed.targets)
    if method.entropy_weight:
        per_example = per_example - method.entropy_weight * entropy(logits)
    loss = jnp.sum(mixed.weights * per_example) / total
    if method.arc_weight:
        loss = loss + method.arc_weight * _squared_gap(logits, mixed, total, axis_name)
    return loss


def _squared_gap(logits: jax.Array, mixed: Mixed, total: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns a device's part of (mean confidence - accuracy)^2 over the global batch; the sum over devices is that.

    This is ARC, version 1 without bins (Maronas et al. 2020, "On Calibration of Mixup Training"), on the rows of the
    network's batch.  The accuracy has no gradient.  The arguments are those of `batch_loss`.
    """
    gaps = confidence(logits) - accuracy(logits, mixed.unsmoothed)
    part = jnp.sum(mixed.weights * gaps) / total
    fixed = jax.lax.stop_gradient(part)
    gap = sum_over_devices(fixed, axis_name)
    # Unlike the square, this is additive over devices; the sum has the value and the gradient of the square.
    return gap * (2 * part - fixed)


def smoothed_one_hot(labels: jax.Array, classes: int, epsilon: float = 0.0, *, over: str = "others") -> jax.Array:
    """Returns one-hot labels with a mass of epsilon spread over other classes.

    over="others" (the paper): 1 - epsilon on the label, epsilon / (K - 1) on each other class.
    over="all" (Szegedy et al. 2016): (1 - epsilon) * one-hot + epsilon / K on every class.
    The two differ: with K = 10 and epsilon = 0.1, the label has 0.90 and 0.91.

    K is at least 2, and epsilon in [0, 1).

    Returns:
      float32 `[B, K]`, rows sum to 1.
    """
    _check_smoothing(labels, classes, epsilon, over)
    hard = jax.nn.one_hot(labels, classes, dtype=jnp.float32)
    if epsilon == 0:
        return hard
    if over == "all":
        return (1 - epsilon) * hard + epsilon / classes
    return (1 - epsilon) * hard + epsilon / (classes - 1) * (1 - hard)


def _check_smoothing(labels: jax.Array, classes: int, epsilon: float, over: str) -> None:
    if over not in SMOOTH_OVER:
        raise InputError(f"label smoothing spreads over {over!r}; expected 'others' or 'all'")
    if isinstance(epsilon, jax.core.Tracer) or not 0 <= epsilon < 1:
        raise InputError(f"epsilon of label smoothing is {epsilon}; expected a Python number from 0 to less than 1")
    if classes < 2:
        raise InputError(f"label smoothing was given {classes} classes; expected at least 2")
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise InputError(f"labels are {jnp.result_type(labels)}; expected class numbers, integers from 0 to K - 1")
    if not isinstance(labels, jax.core.Tracer) and jnp.size(labels):
        low, high = np.min(np.asarray(labels)), np.max(np.asarray(labels))
        if low < 0 or high >= classes:
            raise InputError(f"labels are from {low} to {high}; expected 0 to {classes - 1}, of {classes} classes")


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns -sum_k targets_k log softmax(logits)_k for each example, in nats.

    Linear in the targets, so the cross-entropy of mixed labels is the mix of cross-entropies.
    """
    if jnp.ndim(logits) != 2 or jnp.shape(targets) != jnp.shape(logits):
        raise InputError(
            f"cross-entropy was given logits {list(jnp.shape(logits))} and targets {list(jnp.shape(targets))}; "
            "expected both [B, K] (labels as rows of probabilities: jax.nn.one_hot(labels, K))"
        )
    return -jnp.sum(targets * _log_softmax(logits), axis=-1)


def entropy(logits: jax.Array) -> jax.Array:
    """Returns H(softmax(logits)) = -sum_k p_k log p_k for each example, in nats, float32 `[B]` in [0, log K].

    It is the sum over classes, not the mean, as in the confidence penalty of Pereyra et al. 2017.
    """
    log_p = _log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def confidence(logits: jax.Array) -> jax.Array:
    """Returns max_k softmax(logits)_k for each example, float32 `[B]` in [1/K, 1]."""
    return jnp.exp(jnp.max(_log_softmax(logits), axis=-1))


def accuracy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the weight that each example's target gives to the predicted class, float32 `[B]` in [0, 1].

    1 or 0 for a hard label; lambda 1[prediction = y_i] + (1 - lambda) 1[prediction = y_j] for a mixed one.
    """
    predicted = jnp.argmax(logits, axis=-1)
    return jnp.take_along_axis(targets, predicted[:, None], axis=-1)[:, 0]


def _log_softmax(logits: jax.Array) -> jax.Array:
    """Computes in at least float32, because in half precision a softmax would round to 0 and 1."""
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
