"""Sets that are made, not read: noise as out-of-distribution input, and corrupted test images.

Noise has independent pixels or words.  The corruptions are blur, noise, less contrast and rotation, each at three
severities, and each with a formula of one line, so that anybody can make the same images.  They are not those of
CIFAR-10-C (Hendrycks and Dietterich, 2019), which are read from its files (`cifar10_corrupted_KIND_SEVERITY`).  Their
labels stay correct.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.images import open_upright
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

STRENGTHS = {
    "blur": (0.0, 0.03, 0.05, 0.08),  # deviation of the Gaussian, as a share of the image's height
    "noise": (0.0, 0.1, 0.2, 0.3),  # deviation, as a share of 255
    "contrast": (1.0, 0.6, 0.4, 0.2),  # factor of each pixel's distance from its image's mean
    "rotation": (0.0, 15.0, 30.0, 45.0),  # degrees
}
"""The kinds of corruption, and the number of each by severity."""
KINDS = tuple(STRENGTHS)
SEVERITIES = (1, 2, 3)
PLANS: dict[str, tuple[tuple[str, int], ...]] = {
    "corrupted": tuple((kind, severity) for kind in KINDS for severity in SEVERITIES),
    **{f"corrupted_{kind}_{severity}": ((kind, severity),) for kind in KINDS for severity in SEVERITIES},
}
"""The corruptions of each set by its name: image i has number i mod P of P corruptions; "corrupted" has all twelve."""


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


def corrupted_images(name: str, images: npt.NDArray[np.uint8], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Returns the images of a corrupted set (see `PLANS`), uint8 `[N, H, W, C]`.

    The result depends only on (name, images, seed), and that of image i only on image i and i.
    """
    plan = PLANS[name]
    out = np.empty_like(images)
    for row, image in enumerate(images):
        kind, severity = plan[row % len(plan)]
        out[row] = corrupt(image, kind, severity, [seed, row])
    return out


def corrupt(image: npt.NDArray[np.uint8], kind: str, severity: int, seed: int | list[int]) -> npt.NDArray[np.uint8]:
    """Returns an image x with one corruption, rounded to 0..255; severity 0 returns it unchanged.

    With s the number of its severity (`STRENGTHS`):
      blur      x * Gaussian of deviation s H pixels, cut off at 3 deviations, edges mirrored
      noise     x + 255 s z, with z ~ N(0, 1) for each pixel and channel, the same for every severity
      contrast  m + s (x - m), m the mean of the image's pixels by channel
      rotation  by s degrees about the centre, in a direction drawn by the seed; bilinear, black outside
    """
    if severity == 0:
        return image
    pixels, strength = image.astype(np.float64), STRENGTHS[kind][severity]
    generator = np.random.default_rng([*np.atleast_1d(seed).tolist(), zlib.crc32(kind.encode())])
    if kind == "rotation":
        from PIL.Image import Resampling

        degrees = strength * (1 if generator.random() < 0.5 else -1)
        return np.asarray(open_upright(image).rotate(degrees, Resampling.BILINEAR)).reshape(image.shape)
    if kind == "blur":
        pixels = _blurred(pixels, strength * image.shape[0])
    elif kind == "noise":
        pixels = pixels + 255 * strength * generator.standard_normal(image.shape)
    else:
        mean = pixels.mean(axis=(0, 1))
        pixels = mean + strength * (pixels - mean)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _blurred(pixels: npt.NDArray[np.float64], deviation: float) -> npt.NDArray[np.float64]:
    reach = int(np.ceil(3 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(pixels, [(reach, reach) if axis == other else (0, 0) for other in range(3)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
        pixels = windows @ kernel
    return pixels
