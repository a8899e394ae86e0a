"""Targets and losses, in float32 or wider."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn

from mixup_jax.devices.mesh import gather_rows, sum_over_devices
from mixup_jax.errors import InputError
from mixup_jax.methods.method import SMOOTH_OVER, Method
from mixup_jax.state import Mixed

MMCE_WIDTH, MMCE_FLOOR = 0.4, 1e-10
"""The width of MMCE's kernel (Kumar et al. 2018), and what is added under its root, whose slope at 0 is infinite."""


def batch_loss(
    method: Method, logits: jax.Array, mixed: Mixed, total: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Returns a device's part of the loss of a batch, a scalar in nats; the sum over devices is the loss.

        mean of `example_loss`  +  the terms of the batch, each with its weight (arc, mdca, mmce, rank)

    The logits `[R, K]` and the targets, labels and weights of `mixed` are those of this device's rows; `total` is
    the sum of the weights over all devices.
    """
    if method.logit_norm:
        logits = normalised(logits, method.logit_norm)
    loss = jnp.sum(mixed.weights * example_loss(method, logits, mixed.targets)) / total
    if method.arc_weight:
        gap = jnp.sum(mixed.weights * (confidence(logits) - accuracy(logits, mixed.unsmoothed))) / total
        loss = loss + method.arc_weight * _of_sum(jnp.square, gap, axis_name)
    if method.mdca_weight:
        gaps = mixed.weights @ (jnp.exp(_log_softmax(logits)) - mixed.unsmoothed) / total
        loss = loss + method.mdca_weight * _of_sum(_mean_size, gaps, axis_name)
    if method.mmce_weight:
        squared = _squared_mmce(logits, mixed, total, axis_name)
        loss = loss + method.mmce_weight * _of_sum(_root, squared, axis_name)
    if method.rank_weight and method.mixes:
        loss = loss + method.rank_weight * _ranking(logits, mixed, total, method.rank_margin)
    return loss


def example_loss(method: Method, logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the loss of each example, float32 `[R]`, from logits and targets `[R, K]`.

    (1 - w) cross-entropy or focal loss  +  w Brier score  -  entropy_weight * H(p)  +  the penalty on margins.
    """
    loss = focal(logits, targets, method.focal_gamma, dual=method.focal_dual)
    if method.brier_weight:
        brier = jnp.sum((jnp.exp(_log_softmax(logits)) - targets) ** 2, axis=-1)
        loss = (1 - method.brier_weight) * loss + method.brier_weight * brier
    if method.entropy_weight:
        loss = loss - method.entropy_weight * entropy(logits)
    if method.margin_weight:
        loss = loss + method.margin_weight * beyond_margin(logits, method.margin)
    return loss


def _of_sum(function: Callable[[jax.Array], jax.Array], part: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns a device's part of function(sum of `part` over devices), whose sum has that value and its gradient."""
    fixed = jax.lax.stop_gradient(part)
    value, slope = jax.value_and_grad(function)(sum_over_devices(fixed, axis_name))
    return value / sum_over_devices(1.0, axis_name) + jnp.sum(slope * (part - fixed))


def _mean_size(values: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(values))


def _root(squared: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.maximum(squared, 0) + MMCE_FLOOR)


def _squared_mmce(logits: jax.Array, mixed: Mixed, total: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns a device's part of MMCE^2 = sum_ij e_i e_j exp(-|r_i - r_j| / 0.4) / n^2, e = accuracy - confidence r.

    The sum over devices has its value and gradient.  Unweighted, after Kumar et al. 2018.
    """
    confidences = confidence(logits)
    errors = mixed.weights * (accuracy(logits, mixed.unsmoothed) - confidences) / total
    everywhere = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    fixed = jax.lax.stop_gradient(jnp.stack([errors, confidences], axis=1))
    other_errors, other_confidences = gather_rows(fixed, axis_name, everywhere).T
    difference = confidences[:, None] - other_confidences
    # Unlike that of jnp.abs, the gradient is 0 at 0, where each row meets itself.
    kernel = jnp.exp(-jnp.maximum(difference, -difference) / MMCE_WIDTH)
    part = errors @ kernel @ other_errors
    # The kernel is symmetric: the gradient by both of its rows is twice that by the first.
    return 2 * part - jax.lax.stop_gradient(part)


def _ranking(logits: jax.Array, mixed: Mixed, total: jax.Array, margin: float) -> jax.Array:
    """Returns a device's part of the mean of max(0, max logit mixed - max logit clean + margin), as in RankMixup's MRL.

    Rows are clean and mixed alternately.  A pair of one class counts 0.
    """
    largest = jnp.max(logits, axis=-1)
    of_two_classes = jnp.max(mixed.unsmoothed[1::2], axis=-1) < 1 - 1e-6
    weights = (mixed.weights[::2] + mixed.weights[1::2]) * of_two_classes
    return jnp.sum(weights * nn.relu(largest[1::2] - largest[::2] + margin)) / total


def normalised(logits: jax.Array, temperature: float) -> jax.Array:
    """Returns logits / (temperature * |logits|), with the Euclidean norm of each row, at least 1e-7 (LogitNorm)."""
    # Not jnp.linalg.norm, whose gradient at 0 is not a number.
    norm = jnp.sqrt(jnp.sum(logits**2, axis=-1, keepdims=True) + 1e-14)
    return logits / (temperature * norm)


def focal(logits: jax.Array, targets: jax.Array, gamma: float, *, dual: bool = False) -> jax.Array:
    """Returns -sum_k targets_k (1 - p_k)^gamma log p_k for each example; with `dual`, of (1 - p_k + p_j)^gamma.

    p_j is the largest probability below p_k, 0 if there is none.  Linear in the targets.  gamma = 0 is cross-entropy.
    """
    if gamma == 0:
        return cross_entropy(logits, targets)
    log_p = _log_softmax(logits)
    rest = -jnp.expm1(log_p)
    return -jnp.sum(targets * (rest + next_lower(jnp.exp(log_p)) if dual else rest) ** gamma * log_p, axis=-1)


def next_lower(values: jax.Array) -> jax.Array:
    """Returns for each entry of `[R, K]` the largest of its row that is below it, 0 if there is none."""

    def of_row(row: jax.Array) -> jax.Array:
        ascending = jnp.sort(row)
        below = jnp.searchsorted(ascending, row)
        return jnp.where(below > 0, ascending[below - 1], 0)

    return jax.vmap(of_row)(values)


def beyond_margin(logits: jax.Array, margin: float) -> jax.Array:
    """Returns mean_k max(0, max_j z_j - z_k - margin) for each example (MbLS)."""
    return jnp.mean(nn.relu(jnp.max(logits, axis=-1, keepdims=True) - logits - margin), axis=-1)


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
