"""Mixup: convex combinations of examples, and of their labels.

    x~ = lambda x_i + (1 - lambda) x_j        lambda ~ Beta(alpha, alpha)
    y~ = lambda y_i + (1 - lambda) y_j        (Zhang et al., "mixup: Beyond Empirical Risk
                                               Minimization", ICLR 2018, equation 1)

Examples are mixed inside groups of consecutive examples.  Group g draws its lambda and its
permutation from `fold_in(key, g)` only, so a pair does not depend on how many devices share the
batch, and a device that holds whole groups mixes them without communication.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mixup_jax.errors import InputError

DRAWS = 32
"""How often two shares are drawn to have a gap between them: at alpha 1 and gap 1/2 all fail once in 2^32 groups."""
TINY, SMALLEST = 1e-30, 1e-3
"""Below any mean distance that is not 0; and an alpha at which lambda is 0 or 1 and its sampler still finite."""
NEAREST = 1e-6
"""Two shares count as at least so far apart, so that no quotient is infinite."""


class Mixing(NamedTuple):
    """The partner and the lambda of each example, in G groups of S examples.

    Attributes:
      lam: float32 `[G, S]` in [0, 1], the weight of the example itself; constant along a row unless
        it was drawn per example.
      partner: int32 `[G, S]`, the position, within the group, of the example that it is mixed with.  Every
        row is a permutation of 0..S-1, so an example may be its own partner.
    """

    lam: jax.Array
    partner: jax.Array


def draw_mixing(key: jax.Array, groups: int, group_size: int, alpha: float, *, per_example: bool = False) -> Mixing:
    """Draws lambda ~ Beta(alpha, alpha) and a random permutation for every group.

    lambda is float32 whatever the network's dtype: in bfloat16, a sixth of the draws at alpha = 0.2
    would round to exactly 1.
    """
    _check_alpha(alpha)
    if alpha == 0:
        raise InputError("alpha is 0; expected a number > 0 (without mixing there is nothing to draw)")

    def draw_group(group: jax.Array) -> Mixing:
        beta_key, permutation_key = jax.random.split(jax.random.fold_in(key, group))
        shape = (group_size,) if per_example else (1,)
        lam = jax.random.beta(beta_key, alpha, alpha, shape, dtype=jnp.float32)
        return Mixing(jnp.broadcast_to(lam, (group_size,)), jax.random.permutation(permutation_key, group_size))

    return jax.vmap(draw_group)(jnp.arange(groups))


def draw_by_distance(
    key: jax.Array, groups: jax.Array, partner: jax.Array, features: jax.Array, alpha: float, spread: float
) -> jax.Array:
    """Draws lambda ~ Beta(tau, tau) for every pair, float32 `[G, S]`.

    tau = alpha exp(-(d / mean d - 1) / (2 spread^2)), where d is the squared distance of the pair's features, and
    its mean is that of the group (SK-Mixup, Bouniot et al. 2025): the farther apart two examples are, the nearer lambda
    is to 0 or 1.  If tau is alpha everywhere, the draws are those of `draw_mixing` with this key per example, bit for
    bit.  `groups` `[G]` are their numbers in the global batch; partner `[G, S]`, features `[G S, D]`, spread > 0.
    """

    def draw_group(group: jax.Array, partner: jax.Array, features: jax.Array) -> jax.Array:
        beta_key, _ = jax.random.split(jax.random.fold_in(key, group))
        distance = jnp.sum((features - features[partner]) ** 2, axis=-1)
        relative = distance / jnp.maximum(jnp.mean(distance), TINY)
        tau = jnp.maximum(alpha * jnp.exp((1 - relative) / (2 * spread**2)), SMALLEST)
        return jax.random.beta(beta_key, tau, tau, dtype=jnp.float32)

    grouped = features.astype(jnp.float32).reshape(*partner.shape, -1)
    return jax.vmap(draw_group)(groups, partner, grouped)


def draw_two_shares(
    key: jax.Array, groups: int, group_size: int, alpha: float, gap: float, *, per_example: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Draws two lambdas for every group (or example), both float32 `[G, S]`: one in [1/2, 1], the other in [0, 1/2].

    They are Beta(alpha, alpha), folded, and drawn again while they are nearer than `gap` (MIT, Wang et al. 2023).  Of
    `DRAWS` draws the first that is far enough is taken; if none is, that with the widest gap.
    """

    def draw_group(group: jax.Array) -> tuple[jax.Array, jax.Array]:
        shape = (DRAWS, 2, group_size if per_example else 1)
        lam = jax.random.beta(jax.random.fold_in(key, group), alpha, alpha, shape, dtype=jnp.float32)
        larger = jnp.maximum(lam, 1 - lam)
        first, second = larger[:, 0], 1 - larger[:, 1]
        apart = first - second
        chosen = jnp.argmax(jnp.where(apart >= gap, 2, apart), axis=0)[None]
        first, second = (jnp.take_along_axis(each, chosen, axis=0)[0] for each in (first, second))
        return jnp.broadcast_to(first, (group_size,)), jnp.broadcast_to(second, (group_size,))

    return jax.vmap(draw_group)(jnp.arange(groups))


def decouple(values: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """Returns what two mixtures of the same pairs are mixtures of, `[2 B, K]`, alternately a and b of B pairs (a, b).

    `values` `[2 B, K]` are alternately first * a + (1 - first) * b and second * a + (1 - second) * b; first `[B]` is
    larger than second `[B]`.
    """
    one, other = values[::2], values[1::2]
    first, second = first[:, None], second[:, None]
    apart = jnp.maximum(first - second, NEAREST)
    own = ((1 - second) * one - (1 - first) * other) / apart
    partner = (first * other - second * one) / apart
    return jnp.stack([own, partner], axis=1).reshape(values.shape)


def _check_alpha(alpha: float) -> None:
    if isinstance(alpha, jax.core.Tracer):
        raise InputError("alpha is traced; expected a Python number, such as a static argument of jax.jit")
    if not 0 <= alpha < math.inf:
        raise InputError(f"alpha is {alpha}; expected a finite number of at least 0")


def mix(values: jax.Array, mixing: Mixing) -> jax.Array:
    """Returns lambda * v_i + (1 - lambda) * v_j for every example along the leading axis.

    Returns:
      An array of the shape of `values`.  lambda = 1 returns the values bit for bit.
    """
    if jnp.shape(values)[:1] != (mixing.partner.size,):
        raise InputError(
            f"values to mix have the shape {list(jnp.shape(values))}; expected {mixing.partner.size} rows, in "
            f"{mixing.partner.shape[0]} groups of {mixing.partner.shape[1]}"
        )
    return jax.lax.platform_dependent(values, mixing, tpu=_mix_by_product, default=_mix_by_gathering)


def _mix_by_gathering(values: jax.Array, mixing: Mixing) -> jax.Array:
    grouped, partners = _pairs(values, mixing.partner)
    lam = mixing.lam.reshape(*mixing.lam.shape, *(1,) * (values.ndim - 1))
    return (lam * grouped + (1 - lam) * partners).reshape(values.shape)


def _mix_by_product(values: jax.Array, mixing: Mixing) -> jax.Array:
    """Mixes by a matrix product over the examples of each group, M = lambda I + (1 - lambda) P.

    A TPU pads images of three channels so much that gathering them moves 7 of the 56 GB of a ResNet-50 step.
    This product is fused with the operations before and after it (docs/scaling.md).
    """
    size, lam = mixing.partner.shape[1], mixing.lam[..., None]
    chosen = jax.nn.one_hot(mixing.partner, size, dtype=lam.dtype)
    matrix = lam * jnp.eye(size, dtype=lam.dtype) + (1 - lam) * chosen
    grouped = values.reshape(*mixing.partner.shape, *values.shape[1:])
    # Full float32 (six passes of bfloat16 products on a TPU), because bfloat16 would round lambda = 1 - 2^-9 to 1.
    mixed = jnp.einsum("gij,gj...->gi...", matrix, grouped, precision=jax.lax.Precision.HIGHEST)
    return mixed.reshape(values.shape)


def _pairs(values: jax.Array, partner: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the values and those of their partners, both `[G, S, ...]`."""
    grouped = values.reshape(*partner.shape, *values.shape[1:])
    return grouped, jax.vmap(lambda group, positions: group[positions])(grouped, partner)


class Boxes(NamedTuple):
    """A box in the image of every example, in G groups of S examples; a box may be empty.

    Attributes:
      low: int32 `[G, S, 2]`, its first row and column.
      high: int32 `[G, S, 2]`, one past its last row and column.
    """

    low: jax.Array
    high: jax.Array


def draw_boxes(key: jax.Array, lam: jax.Array, height: int, width: int, *, per_example: bool = False) -> Boxes:
    """Draws boxes whose sides are sqrt(1 - lambda) of the image's, around a uniform centre, clipped to the image.

    This follows CutMix (Yun et al., ICCV 2019, equation 2; rounding and clipping as in its published code): sides
    are rounded down, and the box extends by half a side, rounded down, on either side of its centre.
    """
    groups, size = lam.shape
    image = jnp.array([height, width])

    def draw_centres(group: jax.Array) -> jax.Array:
        shape = (size, 2) if per_example else (1, 2)
        centres = jax.random.randint(jax.random.fold_in(key, group), shape, 0, image)
        return jnp.broadcast_to(centres, (size, 2))

    centres = jax.vmap(draw_centres)(jnp.arange(groups))
    sides = (jnp.sqrt(1 - lam)[..., None] * image).astype(jnp.int32)
    return Boxes(jnp.clip(centres - sides // 2, 0, image), jnp.clip(centres + sides // 2, 0, image))


def kept_share(boxes: Boxes, height: int, width: int) -> jax.Array:
    """Returns the share of pixels outside each box, float32 `[G, S]`: CutMix's lambda after clipping."""
    area = jnp.prod(boxes.high - boxes.low, axis=-1)
    return (1 - area / (height * width)).astype(jnp.float32)


def paste(images: jax.Array, boxes: Boxes, partner: jax.Array) -> jax.Array:
    """Returns images in which each box is filled from the partner's image."""
    _, height, width, _ = images.shape
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    low, high = boxes.low[..., None, None], boxes.high[..., None, None]
    down = (low[:, :, 0] <= rows) & (rows < high[:, :, 0])
    across = (low[:, :, 1] <= columns) & (columns < high[:, :, 1])
    grouped, partners = _pairs(images, partner)
    return jnp.where((down & across)[..., None], partners, grouped).reshape(images.shape)


def keep_larger(values: jax.Array, mixing: Mixing) -> jax.Array:
    """Returns v_i where lambda >= 1/2 and v_j elsewhere: the hard label of the larger part.

    This is the label of feature-only mixing.  Shapes as for `mix`.
    """
    return mix(values, mixing._replace(lam=(mixing.lam >= 0.5).astype(mixing.lam.dtype)))


def mixup(
    key: jax.Array,
    inputs: jax.Array,
    targets: jax.Array,
    alpha: float,
    *,
    group_size: int = 0,
    per_example: bool = False,
) -> tuple[jax.Array, jax.Array, Mixing]:
    """Mixes a batch as in the paper, in one call that can be used in any training loop.

    Args:
      key: a jax random key, fresh for every step.
      inputs: floating point `[B, ...]`, after augmentation and standardisation.
      targets: floating point `[B, K]`, one-hot or soft labels.
      alpha: of the Beta distribution; a Python number >= 0; 0 returns the batch unchanged.
      group_size: how many consecutive examples share a lambda and a permutation; 0 is the whole batch.
      per_example: draw one lambda per example.

    Returns:
      Mixed inputs, mixed targets (the sums of rows do not change), and the mixing that was drawn.

    Raises:
      InputError: alpha is not a finite number of at least 0, the batch is not a whole number of groups, inputs or
        targets are integers (which cannot be averaged), or there is not one row of targets for each input.
    """
    _check_alpha(alpha)
    for name, values in (("inputs", inputs), ("targets", targets)):
        if not jnp.issubdtype(jnp.result_type(values), jnp.floating):
            raise InputError(
                f"{name} of mixup are {jnp.result_type(values)}; expected floating point, since they are averaged "
                "(labels as rows of probabilities: jax.nn.one_hot(labels, classes); images standardised)"
            )
    if jnp.ndim(inputs) < 1 or jnp.ndim(targets) != 2 or len(targets) != len(inputs):
        raise InputError(
            f"mixup was given inputs {list(jnp.shape(inputs))} and targets {list(jnp.shape(targets))}; expected "
            "[B, ...] and [B, K]"
        )
    batch = inputs.shape[0]
    size = group_size or batch
    if batch % size:
        raise InputError(f"a batch of {batch} is no whole number of groups of {size}; expected group_size to divide it")
    if alpha == 0:
        identity = jnp.tile(jnp.arange(size), (batch // size, 1))
        return inputs, targets, Mixing(jnp.ones((batch // size, size)), identity)
    mixing = draw_mixing(key, batch // size, size, alpha, per_example=per_example)
    return mix(inputs, mixing), mix(targets, mixing), mixing
