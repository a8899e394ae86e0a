"""How a batch is mixed in one step: the function `mix` that the network calls, and the training targets."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mixup_jax.devices.mesh import (
    gather_rows,
    global_rows,
    local_rows,
    neighbours,
    on_every_device,
    own_rows,
    rows_on_their_devices,
    sum_over_devices,
)
from mixup_jax.methods import losses, mixup
from mixup_jax.methods.method import Method
from mixup_jax.state import Batch, Mixed

Mix = Callable[[jax.Array, int], jax.Array]
"""Mixes the activations `[B, ...]` at a place of the network over the examples; may return more rows than it got."""

RANDOM_PLACES = 3
"""Manifold mixup mixes at the input or after one of the first two stages (Verma et al. 2019, section 5.1)."""

# A group draws from the step's key folded with its number, counted from 0; other draws use the largest numbers.
_DROPOUT, _PLACE, _BOX, _SHARES = 2**32 - 1, 2**32 - 2, 2**32 - 3, 2**32 - 4


def mix_batch(
    method: Method,
    batch: Batch,
    key: jax.Array,
    *,
    classes: int,
    places: int = 0,
    features: jax.Array | None = None,
    mixed_classes: jax.Array | None = None,
    axis_name: str | None = None,
    mesh: Mesh | None = None,
) -> Mixed:
    """Draws how a batch, or this device's rows of it, is mixed.

    `features` `[B, D]` are those whose distances `method.kernel_spread` takes; `mixed_classes` `[K]` is 1 for the
    classes whose examples are mixed with `method.adapt_classes`, else 0.
    """
    smoothed = losses.smoothed_one_hot(batch.labels, classes, method.label_smoothing, over=method.smooth_over)
    hard = losses.smoothed_one_hot(batch.labels, classes)
    if not method.mixes:
        return Mixed(unmixed, smoothed, hard, batch.weights, jnp.zeros(()))
    method.check_task("image" if batch.inputs.ndim == 4 else "text")
    together, mixing, second, boxes, strength = _draw(method, batch, key, features, mixed_classes, axis_name, mesh)

    def exchanged(mix_groups: Callable[[jax.Array], jax.Array], values: jax.Array) -> jax.Array:
        """Mixes this device's rows with the other rows of their groups, which may be on other devices."""
        return own_rows(mix_groups(gather_rows(values, axis_name, together)), axis_name, together)

    mix_labels = partial(mixup.mix if method.mix_labels else mixup.keep_larger, mixing=mixing)
    if second is not None:
        mix_labels = partial(mixup.mix, mixing=mixing._replace(lam=jnp.zeros_like(mixing.lam)))
    targets, unsmoothed, weights = exchanged(mix_labels, smoothed), exchanged(mix_labels, hard), batch.weights
    if method.copies == 2:
        targets, unsmoothed = alternate(smoothed, targets), alternate(hard, unsmoothed)
        share = 0.5 if second is not None else method.clean_weight
        weights = alternate(share * weights, (1 - share) * weights)
    # If each device holds whole groups, XLA divides the work well without a constraint.
    spread = mesh if together > 1 else None
    targets, unsmoothed, weights = rows_on_their_devices((targets, unsmoothed, weights), spread)
    candidates = min(RANDOM_PLACES, places + 1) if method.layer == "random" else 1
    chosen = jax.random.randint(jax.random.fold_in(key, _PLACE), (), 0, candidates)

    def mix_inputs(hidden: jax.Array, place: int) -> jax.Array:
        if not method.mix_inputs or place >= candidates:
            return hidden
        if boxes is not None:
            return exchanged(partial(mixup.paste, boxes=boxes, partner=mixing.partner), hidden)
        # At places that were not chosen lambda is 1, which returns the values bit for bit.
        here = mixing if candidates == 1 else mixing._replace(lam=jnp.where(chosen == place, mixing.lam, 1))
        return exchanged(partial(mixup.mix, mixing=here), hidden).astype(hidden.dtype)

    def mix(hidden: jax.Array, place: int) -> jax.Array:
        if method.copies == 1:
            return rows_on_their_devices(mix_inputs(hidden, place), spread)
        if second is not None:
            if place > 0:
                return hidden
            again = exchanged(partial(mixup.mix, mixing=second), hidden).astype(hidden.dtype)
            return rows_on_their_devices(alternate(mix_inputs(hidden, 0), again), spread)
        clean, other = (hidden, hidden) if place == 0 else (hidden[::2], hidden[1::2])
        return rows_on_their_devices(alternate(clean, mix_inputs(other, place)), spread)

    if second is None:
        return Mixed(mix, targets, unsmoothed, weights, strength)
    first, other = (own_rows(each.lam.reshape(-1), axis_name, together) for each in (mixing, second))
    return Mixed(mix, targets, unsmoothed, weights, strength, partial(mixup.decouple, first=first, second=other))


class _Drawn(NamedTuple):
    """What a step draws.

    Attributes:
      together: how many neighbouring devices hold whole groups; each has what was drawn for the rows of all of them.
      second: the other mixture of each pair, with `decouple`.
      strength: as in `Mixed`.
    """

    together: int
    mixing: mixup.Mixing
    second: mixup.Mixing | None
    boxes: mixup.Boxes | None
    strength: jax.Array


def _draw(
    method: Method,
    batch: Batch,
    key: jax.Array,
    features: jax.Array | None,
    mixed_classes: jax.Array | None,
    axis_name: str | None,
    mesh: Mesh | None,
) -> _Drawn:
    """Draws what `mix_batch`, which has these arguments, mixes by."""
    rows = global_rows(batch.labels.shape[0], axis_name)
    size = method.group(rows)
    per_example = method.scope == "example"
    drawn = mixup.draw_mixing(key, rows // size, size, method.mixup_alpha, per_example=per_example)
    mixing = on_every_device(drawn, mesh)
    boxes = None
    if method.cut:
        height, width = batch.inputs.shape[1:3]
        box_key = jax.random.fold_in(key, _BOX)
        boxes = mixup.draw_boxes(box_key, mixing.lam, height, width, per_example=per_example)
        mixing = mixing._replace(lam=mixup.kept_share(boxes, height, width))
    strength, second = jnp.mean(jnp.minimum(mixing.lam, 1 - mixing.lam)), None
    if method.decouple:
        shares_key, alpha, gap = jax.random.fold_in(key, _SHARES), method.mixup_alpha, method.decouple_gap
        two = mixup.draw_two_shares(shares_key, rows // size, size, alpha, gap, per_example=per_example)
        shares = on_every_device(two, mesh)
        mixing, second = (mixing._replace(lam=share) for share in shares)
        strength = jnp.mean(jnp.stack([1 - shares[0], shares[1]]))
    # Every device draws for the whole batch, a few numbers per group, and keeps the groups of its own rows.
    together = neighbours(rows, size, axis_name, mesh)
    mixing, second, boxes = local_rows((mixing, second, boxes), axis_name, together)
    if features is not None:
        groups = local_rows(jnp.arange(rows // size), axis_name, together)
        gathered = on_every_device(gather_rows(features, axis_name, together), mesh)
        lam = mixup.draw_by_distance(key, groups, mixing.partner, gathered, method.mixup_alpha, method.kernel_spread)
        mixing = mixing._replace(lam=lam)
    if mixed_classes is not None:
        labels = gather_rows(batch.labels, axis_name, together).reshape(mixing.lam.shape)
        mixing = mixing._replace(lam=jnp.where(mixed_classes[labels] > 0, mixing.lam, 1))
    if features is not None or mixed_classes is not None:
        own = own_rows(mixing.lam.reshape(-1), axis_name, together)
        strength = sum_over_devices(jnp.sum(jnp.minimum(own, 1 - own)), axis_name) / rows
    return _Drawn(together, mixing, second, boxes, strength)


def dropout_keys(method: Method, batch: Batch, key: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Returns a key for each row of the network's batch, or of a device's part of it.

    Keys are drawn for the global batch, so a row's dropout mask does not depend on the devices.
    """
    rows = global_rows(batch.labels.shape[0], axis_name) * method.copies
    return local_rows(jax.random.split(jax.random.fold_in(key, _DROPOUT), rows), axis_name)


def alternate(one: jax.Array, other: jax.Array) -> jax.Array:
    """Returns the rows of two arrays of the same shape alternately: one[0], other[0], one[1], other[1], .."""
    return jnp.stack([one, other], axis=1).reshape(2 * one.shape[0], *one.shape[1:])


def unmixed(h: jax.Array, place: int) -> jax.Array:
    """Returns `h`: the `Mix` of a network that does not mix."""
    return h
