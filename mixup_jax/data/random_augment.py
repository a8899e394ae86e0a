"""RandAugment, TrivialAugment and random erasing, as part of the compiled step.

RandAugment (Cubuk et al., arXiv:1909.13719) applies a number of operations in turn, drawn uniformly for each image, at
one strength.  TrivialAugment (Müller and Hutter, arXiv:2103.10158, its wide space) applies one operation at a uniform
strength.  The 14 operations and their ranges are those of torchvision's classes `RandAugment` and
`TrivialAugmentWide`; each operation computes what Pillow does, with the nearest pixel and black outside.  Random
erasing is Zhong et al., arXiv:1708.04896.

Images are uint8 `[B, H, W, C]` with 1 or 3 channels.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixup_jax.config import DataConfig

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color"),
    *("contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)
LEVELS = 30
"""The largest strength; `data.policy_strength` counts up to it."""
SMALLEST, LARGEST, LONGEST = 0.02, 1 / 3, 3.3
"""Of an erased box: its least and largest share of the image, and its largest aspect ratio."""
# Draws that crops do not use: they take the first numbers that are folded into a step's key.
_POLICY, _ERASE = 2**32 - 1, 2**32 - 2


class Ranges(NamedTuple):
    """The numbers of each operation at the largest strength; `translate` is a share of the side, or in pixels."""

    shear: float
    translate: float
    rotate: float
    blend: float
    bits: int
    pixels: bool


RANGES = {
    "randaugment": Ranges(0.3, 150 / 331, 30.0, 0.9, 4, pixels=False),
    "trivialaugment": Ranges(0.99, 32.0, 135.0, 0.99, 6, pixels=True),
}


class Drawn(NamedTuple):
    """The operations of each image, `[B, layers]`: their numbers in `OPERATIONS`, strengths in [0, 1], and signs."""

    operation: jax.Array
    strength: jax.Array
    sign: jax.Array


def augmented(
    images: jax.Array, data: DataConfig, key: jax.Array, batch: int, share: Callable[[Any], Any]
) -> jax.Array:
    """Returns this device's images after the policy and the erasing of a config.

    Everything is drawn from the step's `key` for the global batch of `batch` examples; `share` takes the device's rows.
    """
    if data.policy:
        images = apply(images, share(draw(jax.random.fold_in(key, _POLICY), batch, data)), RANGES[data.policy])
    if data.erase:
        images = jax.vmap(lambda image, key: erase(image, key, data.erase))(
            images, share(jax.random.split(jax.random.fold_in(key, _ERASE), batch))
        )
    return images


def draw(key: jax.Array, batch: int, data: DataConfig) -> Drawn:
    """Draws the operations of a batch, each as likely as any other."""
    trivial = data.policy == "trivialaugment"
    operation_key, strength_key, sign_key = jax.random.split(key, 3)
    shape = (batch, 1 if trivial else data.policy_layers)
    level = jax.random.randint(strength_key, shape, 0, LEVELS + 1) if trivial else jnp.full(shape, data.policy_strength)
    operation = jax.random.randint(operation_key, shape, 0, len(OPERATIONS))
    sign = jnp.where(jax.random.bernoulli(sign_key, 0.5, shape), 1.0, -1.0)
    return Drawn(operation, level / LEVELS, sign)


def apply(images: jax.Array, drawn: Drawn, ranges: Ranges) -> jax.Array:
    """Returns the images after their operations, one layer after the other."""

    def one(image: jax.Array, operation: jax.Array, strength: jax.Array, sign: jax.Array) -> jax.Array:
        shown = warp(image, _matrix(operation, strength * sign, ranges, image.shape[:2]))
        return _recoloured(shown, operation, strength, sign, ranges)

    for layer in range(drawn.operation.shape[1]):
        images = jax.vmap(one)(images, *(part[:, layer] for part in drawn))
    return images


def _is(operation: jax.Array, name: str) -> jax.Array:
    return operation == OPERATIONS.index(name)


def _matrix(operation: jax.Array, amount: jax.Array, ranges: Ranges, sides: tuple[int, ...]) -> jax.Array:
    """Returns Pillow's six numbers of an affine map from places of the result to those of the image."""
    height, width = sides
    across, down = (ranges.translate * amount * (1 if ranges.pixels else side) for side in (width, height))
    angle = jnp.where(_is(operation, "rotate"), math.radians(ranges.rotate) * amount, 0.0)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    shear_x = jnp.where(_is(operation, "shear_x"), ranges.shear * amount, 0.0)
    shear_y = jnp.where(_is(operation, "shear_y"), ranges.shear * amount, 0.0)
    left = jnp.where(_is(operation, "translate_x"), jnp.trunc(across), 0.0)
    top = jnp.where(_is(operation, "translate_y"), jnp.trunc(down), 0.0)
    # A rotation is about the centre; shears are about the upper left corner.
    x, y = width / 2, height / 2
    return jnp.stack(
        [
            *(cosine, sine + shear_x, left + x - cosine * x - sine * y),
            *(-sine + shear_y, cosine, top + y + sine * x - cosine * y),
        ]
    )


def warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Returns an image `[H, W, C]` under an affine map, by the nearest pixel, as Pillow's `Image.transform` does.

    Pixel (x, y) of the result is that of the image at (a x + b y + c, d x + e y + f), all counted from the corner, so
    that the centre of a pixel is at a half; what lies outside is black.
    """
    height, width, _ = image.shape
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    a, b, c, d, e, f = matrix
    column, row = jnp.floor(a * x + b * y + c).astype(jnp.int32), jnp.floor(d * x + e * y + f).astype(jnp.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
    return jnp.where(inside[..., None], found, 0)


def _recoloured(
    image: jax.Array, operation: jax.Array, strength: jax.Array, sign: jax.Array, ranges: Ranges
) -> jax.Array:
    """Returns an image after an operation on its colours; unchanged if it is another operation."""
    factor, grey = 1 + ranges.blend * strength * sign, greys(image)
    table = _table(image, grey, operation, strength, factor, ranges)
    changed = jnp.take_along_axis(table, image.reshape(-1, image.shape[-1]).astype(jnp.int32), axis=0)
    changed = changed.reshape(image.shape)
    changed = jnp.where(_is(operation, "color"), blend(grey, image, factor), changed)
    changed = jnp.where(_is(operation, "sharpness"), blend(smooth(image), image, factor), changed)
    return changed.astype(jnp.uint8)


def _table(
    image: jax.Array, grey: jax.Array, operation: jax.Array, strength: jax.Array, factor: jax.Array, ranges: Ranges
) -> jax.Array:
    """Returns what becomes of each value of each channel, int32 `[256, C]`."""
    values = jnp.broadcast_to(jnp.arange(256)[:, None], (256, image.shape[-1]))
    kept = 8 - jnp.round(strength * ranges.bits).astype(jnp.int32)
    mean = jnp.floor(jnp.mean(grey.astype(jnp.float32)) + 0.5)
    counts = jax.vmap(
        lambda channel: jnp.bincount(channel.ravel().astype(jnp.int32), length=256), in_axes=-1, out_axes=-1
    )(image)
    tables = {
        "brightness": blend(jnp.zeros(()), values, factor),
        "contrast": blend(mean, values, factor),
        "posterize": values - values % (2 ** (8 - kept)),
        "solarize": jnp.where(values < jnp.round(255 * (1 - strength)), values, 255 - values),
        "autocontrast": _stretched(values, counts),
        "equalize": _equalised(values, counts),
    }
    for name, table in tables.items():
        values = jnp.where(_is(operation, name), table, values)
    return values


def blend(one: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
    """Returns one + factor (other - one), cut to whole numbers in 0..255, as Pillow's `Image.blend` does."""
    first = one.astype(jnp.float32)
    return jnp.floor(jnp.clip(first + factor * (other.astype(jnp.float32) - first), 0, 255)).astype(jnp.int32)


def greys(image: jax.Array) -> jax.Array:
    """Returns the luma of an image in each of its channels, by Pillow's whole numbers; a grey image is its own."""
    if image.shape[-1] == 1:
        return image
    luma = jnp.sum(image.astype(jnp.int32) * jnp.array([19595, 38470, 7471]), axis=-1, keepdims=True)
    return jnp.broadcast_to((luma + 0x8000) >> 16, image.shape)


def smooth(image: jax.Array) -> jax.Array:
    """Returns the image under Pillow's filter `SMOOTH`, which leaves the pixels at the edge."""
    wide = image.astype(jnp.int32)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * wide[1:-1, 1:-1]
    return wide.at[1:-1, 1:-1].set((2 * total + 13) // 26)


def _stretched(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Returns the table that spreads each channel's values over 0..255."""
    low, high = jnp.argmax(counts > 0, axis=0), 255 - jnp.argmax(counts[::-1] > 0, axis=0)
    scale = 255.0 / jnp.maximum(high - low, 1)
    stretched = jnp.clip(jnp.trunc((values - low) * scale + 1e-4), 0, 255).astype(jnp.int32)
    return jnp.where(high > low, stretched, values)


def _equalised(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Returns the table that makes each channel's values about equally frequent, by Pillow's whole numbers."""
    highest = 255 - jnp.argmax(counts[::-1] > 0, axis=0)
    last = jnp.take_along_axis(counts, highest[None], axis=0)[0]
    step = (jnp.sum(counts, axis=0) - last) // 255
    before = jnp.cumsum(counts, axis=0) - counts
    equalised = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255)
    return jnp.where((step > 0) & (jnp.sum(counts > 0, axis=0) > 1), equalised, values)


def erase(image: jax.Array, key: jax.Array, probability: float) -> jax.Array:
    """Returns an image in which, with a probability, a random box has random pixels.

    The box has 2 % to 33 % of the image's area and an aspect ratio log-uniform in 1/3.3 to 3.3; a side that is longer
    than the image's is cut.
    """
    height, width, _ = image.shape
    box_key, place_key, pixel_key = jax.random.split(key, 3)
    chosen, area, aspect = jax.random.uniform(box_key, (3,))
    area = height * width * (SMALLEST + (LARGEST - SMALLEST) * area)
    aspect = jnp.exp(math.log(LONGEST) * (2 * aspect - 1))
    tall = jnp.minimum(jnp.round(jnp.sqrt(area * aspect)), height)
    wide = jnp.minimum(jnp.round(jnp.sqrt(area / aspect)), width)
    place = jax.random.uniform(place_key, (2,))
    top, left = jnp.floor(place[0] * (height - tall + 1)), jnp.floor(place[1] * (width - wide + 1))
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide) & (chosen < probability)
    return jnp.where(inside[..., None], jax.random.bits(pixel_key, image.shape, jnp.uint8), image)
