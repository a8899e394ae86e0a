"""Out-of-distribution inputs: noise, and other data sets brought to a network's input shape."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.catalog import DatasetSpec, NoiseSpec
from mixup_jax.data.tokens import PADDING, UNKNOWN, Encoder


def noise_images(noise: NoiseSpec, like: DatasetSpec, n: int, seed: int) -> npt.NDArray[Any]:
    """Draws images whose pixels are independent: x_c ~ N(255 mean_c, (scale 255 std_c)^2), or uniform about mid-grey.

    At scale 1 the normal draw is the noise of the out-of-distribution experiments of Thulasidasan et
    al. (2019): Gaussian, with the mean and variance of the training set.  Unclipped it has exactly these
    moments, but a share of the pixels lies outside 0..255 (for Fashion-MNIST 21 % below and 2 % above).
    Clipping removes those and moves the moments: docs/data.md has the measured values.

    Uniform noise takes 256 scale values, the middle ones of 0..255, each as likely as any other.

    A function of (noise, like, seed) alone: the first images do not depend on `n`, and all scales and the
    clipped set are made of the very same normal draws.

    Args:
      noise: which noise.
      like: the data set whose training statistics and image shape it takes.
      n: the number of images.
      seed: any non-negative integer.

    Returns:
      `[n, H, W, C]` in pixel units: uint8 where clipped or uniform, else float32.
    """
    generator = np.random.default_rng([seed, zlib.crc32(like.name.encode())])
    if noise.kind == "uniform":
        values = round(256 * noise.scale)
        low = (256 - values) // 2
        return generator.integers(low, low + values, (n, *like.shape), dtype=np.uint8)
    images = generator.standard_normal((n, *like.shape), dtype=np.float32)
    images *= np.float32(255 * noise.scale) * np.asarray(like.std, np.float32)
    images += np.float32(255) * np.asarray(like.mean, np.float32)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8) if noise.clip else images


def noise_tokens(lengths: npt.NDArray[np.int64], encoder: Encoder, n: int, seed: int) -> npt.NDArray[np.int32]:
    """Draws texts of independent words, uniform over the vocabulary (not padding, not unknown).

    Args:
      lengths: of real texts `[M]`, within 0..L; each text of noise is as long as one of them drawn at random.
      encoder: whose vocabulary and L are taken.
      n: the number of texts.
      seed: any non-negative integer.

    Returns:
      int32 `[n, L]`, 0 after the end of a text.
    """
    generator = np.random.default_rng(seed)
    words = generator.integers(UNKNOWN + 1, len(encoder.vocabulary), (n, encoder.max_tokens), dtype=np.int32)
    drawn = generator.choice(lengths, n)
    return np.where(np.arange(encoder.max_tokens) < drawn[:, None], words, PADDING).astype(np.int32)


def match_shape(images: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Brings images to another height, width and number of channels.

    Where the size differs, see `fit_image`.  Grey becomes RGB by repetition; RGB becomes grey by luma,
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).  Images that already fit are returned unchanged.

    Args:
      images: uint8 `[N, h, w, c]`, c in {1, 3}.
      shape: (H, W, C), C in {1, 3}.

    Returns:
      uint8 `[N, H, W, C]`.
    """
    if images.shape[1:] == shape:
        return images
    out = np.empty((len(images), *shape), np.uint8)
    for row, pixels in zip(out, images, strict=True):
        row[:] = fit_image(pixels, shape)
    return out


def fit_image(pixels: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Cuts the largest box of the wanted aspect ratio out of an image's middle and resizes it.

    Pillow's bilinear filter, which averages over all pixels when it shrinks an image (it is anti-aliased).

    Args:
      pixels: uint8 `[h, w, c]`, c in {1, 3}.
      shape: (H, W, C), C in {1, 3}.

    Returns:
      uint8 `[H, W, C]`.
    """
    from PIL import Image

    height, width, channels = shape
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture = picture.convert("L" if channels == 1 else "RGB")
    scale = min(picture.width / width, picture.height / height)
    cut_width, cut_height = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (picture.width - cut_width) // 2, (picture.height - cut_height) // 2
    # Cut first: `resize(box=...)` would let pixels from outside of the box into its edge.
    cut = picture.crop((left, top, left + cut_width, top + cut_height))
    resized = np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR))
    return resized if resized.ndim == 3 else resized[..., None]
