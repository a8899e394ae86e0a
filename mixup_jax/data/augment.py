"""Augmentation and standardisation of a batch, as part of the compiled step, and checks of their settings."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from mixup_jax.config import DataConfig
from mixup_jax.data.random_augment import augmented
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.errors import InputError


class Crops(NamedTuple):
    """How each image of a batch is shifted, mirrored and rotated.

    Attributes:
      corner: int32 `[B, 2]`, the crop's upper left corner (row, column) in the padded image.
      mirrored: bool `[B]`.
      angle: float32 `[B]`, radians anticlockwise; None for no rotation.
    """

    corner: jax.Array
    mirrored: jax.Array
    angle: jax.Array | None = None


def draw_crops(key: jax.Array, batch: int, *, padding: int, flip: bool, rotation: float = 0.0) -> Crops:
    """Draws a uniform shift of up to `padding` pixels each way, a mirror with probability 1/2, and a uniform angle.

    Without `flip` no image is mirrored.  The angle is at most `rotation` degrees in either direction.
    """
    corner_key, flip_key, angle_key = jax.random.split(key, 3)
    corner = jax.random.randint(corner_key, (batch, 2), 0, 2 * padding + 1)
    mirrored = jax.random.bernoulli(flip_key, 0.5 if flip else 0.0, (batch,))
    if not rotation:
        return Crops(corner, mirrored)
    largest = math.radians(rotation)
    return Crops(corner, mirrored, jax.random.uniform(angle_key, (batch,), minval=-largest, maxval=largest))


def transform(images: jax.Array, crops: Crops, *, padding: int) -> jax.Array:
    """Rotates images `[B, H, W, C]`, pads them with black, crops them to their size, and mirrors left to right."""
    if crops.angle is not None:
        images = jax.vmap(rotate)(images, crops.angle)
    if not padding:
        return mirror(images, crops.mirrored)
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def one(image: jax.Array, corner: jax.Array, mirrored: jax.Array) -> jax.Array:
        crop = jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])
        return jnp.where(mirrored, crop[:, ::-1], crop)

    return jax.vmap(one)(padded, crops.corner, crops.mirrored)


def augment_batch(
    images: jax.Array, config: DataConfig, key: jax.Array, batch: int, share: Callable[[Any], Any]
) -> jax.Array:
    """Returns this device's part of a batch of images, augmented as the config says.

    Random numbers are drawn for the global batch of `batch` images; `share` maps them to those of this device.
    """
    padding = config.crop_padding
    if padding or config.flip or config.rotation:
        crops = share(draw_crops(key, batch, padding=padding, flip=config.flip, rotation=config.rotation))
        images = transform(images, crops, padding=padding)
    return augmented(images, config, key, batch, share)


def mirror(images: jax.Array, mirrored: jax.Array) -> jax.Array:
    """Returns images `[B, H, W, C]` of which those marked in `mirrored`, bool `[B]`, are mirrored left to right."""
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def rotate(image: jax.Array, angle: jax.Array) -> jax.Array:
    """Returns an image `[H, W, C]` rotated anticlockwise about its centre by `angle` radians; the corners become black.

    Bilinear interpolation; integer pixels are rounded.
    """
    height, width, _ = image.shape
    row, column = jnp.meshgrid(
        jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing="ij"
    )
    # The source of each pixel of the result: its position rotated clockwise, with rows counted downwards.
    source_row = jnp.cos(angle) * row + jnp.sin(angle) * column + (height - 1) / 2
    source_column = -jnp.sin(angle) * row + jnp.cos(angle) * column + (width - 1) / 2

    def channel(values: jax.Array) -> jax.Array:
        return map_coordinates(values.astype(jnp.float32), [source_row, source_column], order=1, mode="constant")

    turned = jax.vmap(channel, in_axes=-1, out_axes=-1)(image)
    return (jnp.rint(turned) if jnp.issubdtype(image.dtype, jnp.integer) else turned).astype(image.dtype)


def standardise(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Returns (x / 255 - mean) / std per channel, float32; `mean` and `std` are those of pixels divided by 255."""
    pixels = images.astype(jnp.float32) / 255.0
    return (pixels - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def inputs_of(spec: DatasetSpec) -> Callable[[jax.Array], jax.Array]:
    """Returns the function from a batch to a network's inputs: it standardises pixels and returns tokens unchanged."""
    if spec.task == "text":
        return lambda tokens: tokens
    return partial(standardise, mean=spec.mean, std=spec.std)


def input_shape(spec: DatasetSpec, config: DataConfig) -> tuple[int, ...]:
    """Returns the shape of one input: `(H, W, C)` for images, `(L,)` for text."""
    return (config.max_tokens,) if spec.task == "text" else spec.sized(config.image_size).shape


def check_augmentation(config: DataConfig, spec: DatasetSpec) -> None:
    """Raises InputError if the config asks for augmentation that is not possible for the data set."""
    if spec.task == "text" and (config.crop_padding or config.flip):
        raise InputError(
            f"data.crop_padding is {config.crop_padding} and data.flip is {config.flip}; expected 0 and False: "
            f"{spec.name} is text"
        )
    if config.statistics != "own" and (spec.task == "text" or spec.shape[-1] != 3):
        raise InputError(
            f"data.statistics is {config.statistics!r}; expected 'own': {spec.name} does not have three channels"
        )
    if spec.task == "text" and (config.policy or config.erase):
        raise InputError(
            f"data.policy is {config.policy!r} and data.erase is {config.erase}; expected '' and 0: {spec.name} is text"
        )
    cuts = config.crop == "random_resized"
    if (spec.always_cut or (spec.streams and cuts)) and (not cuts or config.crop_padding or config.rotation):
        raise InputError(
            f"data.crop is {config.crop!r}, data.crop_padding {config.crop_padding} and data.rotation "
            f"{config.rotation}; expected 'random_resized', 0 and 0: {spec.name} is streamed"
        )
    if not spec.streams and (cuts or config.image_size not in (0, *spec.shape[:1])):
        raise InputError(
            f"data.crop is {config.crop!r} and data.image_size {config.image_size}; expected 'pad' and 0: "
            f"{spec.name} is held in memory as it is"
        )
