"""Noise as out-of-distribution input: independent pixels or words."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.text import PADDING, UNKNOWN, Encoder


@dataclass(frozen=True)
class NoiseSpec:
    """A synthetic out-of-distribution set of independent pixels or tokens.

    Attributes:
      kind: "normal" and "uniform" pixels, or "tokens".
      scale: of normal noise, in standard deviations of the training set; of uniform noise, the share of 0..255.
      clip: whether pixels are rounded and clipped to 0..255, as in an image file.
    """

    name: str
    description: str
    kind: str = "normal"
    scale: float = 1.0
    clip: bool = False

    @property
    def task(self) -> str:
        """The task that it is noise for: "image" or "text"."""
        return "text" if self.kind == "tokens" else "image"


NOISE_SETS = (
    NoiseSpec("gaussian_noise", "independent normal pixels with the training set's mean and variance, not clipped"),
    NoiseSpec("gaussian_noise_x0.5", "the same draws with half the training set's deviation", scale=0.5),
    NoiseSpec("gaussian_noise_x2", "the same draws with twice the training set's deviation", scale=2.0),
    NoiseSpec(
        "gaussian_noise_clipped",
        "the draws of gaussian_noise rounded and clipped to 0..255, which moves their mean and variance",
        clip=True,
    ),
    NoiseSpec("uniform_noise", "independent pixels, each value from 0 to 255 as likely as any other", kind="uniform"),
    NoiseSpec("uniform_noise_x0.5", "the same of the middle half of the values, 64 to 191", kind="uniform", scale=0.5),
    NoiseSpec(
        "random_tokens",
        "independent words, each of the vocabulary as likely as any other, in texts as long as those of the test split",
        kind="tokens",
    ),
)
NOISES = {noise.name: noise for noise in NOISE_SETS}


def noise_images(noise: NoiseSpec, like: DatasetSpec, n: int, seed: int) -> npt.NDArray[Any]:
    """Draws images whose pixels are independent: x_c ~ N(255 mean_c, (scale 255 std_c)^2), or uniform about mid-grey.

    At scale 1, normal noise is that of the out-of-distribution experiments of Thulasidasan et al. (2019):
    Gaussian, with the mean and variance of the training set.  Without clipping it has exactly these moments,
    but some pixels are outside 0..255 (for Fashion-MNIST 21 % below and 2 % above).  Clipping changes the
    moments; docs/data.md has the measured values.

    Uniform noise has 256 * scale equally likely values, in the middle of 0..255.

    The images depend only on (noise, like, seed): the first ones do not depend on `n`, and all scales and the
    clipped set use the same normal draws.

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
    """Draws texts of independent words, uniform over the vocabulary (not padding, not unknown): tokens int32 `[n, L]`.

    The length of each text is drawn from `lengths`, `[M]`, those of real texts.
    """
    generator = np.random.default_rng(seed)
    words = generator.integers(UNKNOWN + 1, len(encoder.vocabulary), (n, encoder.max_tokens), dtype=np.int32)
    drawn = generator.choice(lengths, n)
    return np.where(np.arange(encoder.max_tokens) < drawn[:, None], words, PADDING).astype(np.int32)
