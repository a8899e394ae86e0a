"""Augmentation and standardisation of images, as part of the compiled step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Crops(NamedTuple):
    """How each image of a batch is shifted and mirrored.

    Attributes:
      corner: int32 `[B, 2]`, the crop's upper left corner (row, column) in the padded image.
      mirrored: bool `[B]`.
    """

    corner: jax.Array
    mirrored: jax.Array


def draw_crops(key: jax.Array, batch: int, *, padding: int, flip: bool) -> Crops:
    """Draws a uniform shift of up to `padding` pixels each way, and a fair coin for the mirror.

    Args:
      key: a jax random key; the same key gives the same draws.
      batch: B.
      padding: pixels added on each side; 0 leaves images in place.
      flip: whether images may be mirrored at all.
    """
    corner_key, flip_key = jax.random.split(key)
    corner = jax.random.randint(corner_key, (batch, 2), 0, 2 * padding + 1)
    return Crops(corner, jax.random.bernoulli(flip_key, 0.5 if flip else 0.0, (batch,)))


def crop_and_flip(images: jax.Array, crops: Crops, *, padding: int) -> jax.Array:
    """Pads with zeros (black), cuts out a crop of the original size, and mirrors left to right.

    Args:
      images: `[B, H, W, C]` in pixel units.
      crops: as drawn for the same padding.
      padding: pixels added on each side.

    Returns:
      Images of the same shape and dtype.
    """
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def one(image: jax.Array, corner: jax.Array, mirrored: jax.Array) -> jax.Array:
        crop = jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])
        return jnp.where(mirrored, crop[:, ::-1], crop)

    return jax.vmap(one)(padded, crops.corner, crops.mirrored)


def standardise(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """Returns (x / 255 - mean) / std per channel, float32.

    Args:
      images: pixel units 0 to 255, uint8 or float32, `[..., C]`.
      mean: per channel, in units of the full range (0 to 1).
      std: likewise.
    """
    pixels = images.astype(jnp.float32) / 255.0
    return (pixels - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
