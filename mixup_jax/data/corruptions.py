"""Corruptions of test images: blur, noise, less contrast and rotation, each at three severities.

Each has a formula of one line, so that anybody can make the same images.  They are not those of CIFAR-10-C (Hendrycks
and Dietterich, 2019), which are read from its files (`cifar10_corrupted_KIND_SEVERITY`).  The labels stay correct.
"""

import zlib

import numpy as np
import numpy.typing as npt

from mixup_jax.data.images import open_upright

KINDS = ("blur", "noise", "contrast", "rotation")
SEVERITIES = (1, 2, 3)
BLUR = (0.0, 0.03, 0.05, 0.08)
"""Deviation of the Gaussian by severity, as a share of the image's height."""
NOISE = (0.0, 0.1, 0.2, 0.3)
"""Deviation of the noise by severity, as a share of 255."""
CONTRAST = (1.0, 0.6, 0.4, 0.2)
"""By severity: the factor of each pixel's distance from its image's mean."""
ROTATION = (0.0, 15.0, 30.0, 45.0)
"""Degrees by severity."""

PLANS: dict[str, tuple[tuple[str, int], ...]] = {
    "corrupted": tuple((kind, severity) for kind in KINDS for severity in SEVERITIES),
    **{f"corrupted_{kind}_{severity}": ((kind, severity),) for kind in KINDS for severity in SEVERITIES},
}
"""The corruptions of each set by its name: image i has number i mod P of P corruptions; "corrupted" has all twelve."""


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

    With s the number of its severity (`BLUR`, ..):
      blur      x * Gaussian of deviation s H pixels, cut off at 3 deviations, edges mirrored
      noise     x + 255 s z, with z ~ N(0, 1) for each pixel and channel, the same for every severity
      contrast  m + s (x - m), m the mean of the image's pixels by channel
      rotation  by s degrees about the centre, in a direction drawn by the seed; bilinear, black outside
    """
    if severity == 0:
        return image
    pixels = image.astype(np.float64)
    generator = np.random.default_rng([*np.atleast_1d(seed).tolist(), zlib.crc32(kind.encode())])
    if kind == "rotation":
        from PIL.Image import Resampling

        degrees = ROTATION[severity] * (1 if generator.random() < 0.5 else -1)
        return np.asarray(open_upright(image).rotate(degrees, Resampling.BILINEAR)).reshape(image.shape)
    if kind == "blur":
        pixels = _blurred(pixels, BLUR[severity] * image.shape[0])
    elif kind == "noise":
        pixels = pixels + 255 * NOISE[severity] * generator.standard_normal(image.shape)
    else:
        mean = pixels.mean(axis=(0, 1))
        pixels = mean + CONTRAST[severity] * (pixels - mean)
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
