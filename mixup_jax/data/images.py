"""Images of any size brought to the shape that a network takes, and many of them looked at in one picture."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TRIES = 10
"""Rectangles that a random crop may draw until one fits."""
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
CENTRE = 0.875
"""The share of the shorter side that evaluation sees: 224 of 256 pixels."""
COLUMNS, MOST_ROWS, GAP = 10, 20, 2
"""Of a contact sheet: images of a class, classes, and the pixels between images."""
CHUNK = 4096
"""Images whose pixels are summed at once."""


class Box(NamedTuple):
    """A rectangle in an image, in its pixels; whole numbers but for the centre crop."""

    left: float
    top: float
    width: float
    height: float


def random_box(width: int, height: int, draws: npt.NDArray[np.float64]) -> Box:
    """Returns the rectangle of a random-resized crop (Szegedy et al., "Going Deeper with Convolutions", 2015).

    Each try draws an area, uniform in 8 % to 100 % of the image's, and an aspect ratio (width / height),
    log-uniform in 3/4 to 4/3; the first rectangle that fits is placed uniformly.  Where none of the tries fits
    it is the largest rectangle in the middle whose aspect ratio is within these bounds.

    Args:
      width: of the image, pixels.
      height: of the image.
      draws: uniform in [0, 1), `[tries, 4]`: of area, aspect ratio, left and top.

    Returns:
      A box of whole pixels inside the image.
    """
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for area_draw, aspect_draw, left_draw, top_draw in draws.tolist():
        area = width * height * (AREA[0] + (AREA[1] - AREA[0]) * area_draw)
        aspect = math.exp(low + (high - low) * aspect_draw)
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = left_draw * (width - box_width + 1), top_draw * (height - box_height + 1)
            return Box(math.floor(left), math.floor(top), box_width, box_height)
    box_width = min(width, max(1, round(height * ASPECT[1])))
    box_height = min(height, max(1, round(width / ASPECT[0])))
    return Box((width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


def centre_box(width: int, height: int) -> Box:
    """Returns the square in the middle whose side is 0.875 of the image's shorter side.

    Brought to `size` pixels it is what resizing the shorter side to size / 0.875 and cutting out the middle
    gives, but that no side is rounded on the way.
    """
    side = CENTRE * min(width, height)
    return Box((width - side) / 2, (height - side) / 2, side, side)


def decode(data: bytes, size: int, draws: npt.NDArray[np.float64] | None) -> npt.NDArray[np.uint8]:
    """Decodes an image file and brings a rectangle of it to `size` x `size`.

    Pillow's bilinear filter, which averages over more pixels where it shrinks; at the edge of the rectangle it
    may see pixels beyond it.

    Args:
      data: of a JPEG file, or whatever else Pillow reads; grey becomes colour.
      size: of the result, pixels.
      draws: as of `random_box`; None takes the centre.

    Returns:
      uint8 `[size, size, 3]`.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as file:
        image = file.convert("RGB")
    box = centre_box(*image.size) if draws is None else random_box(*image.size, draws)
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=corners))


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


COLUMNS = 10
MOST_ROWS = 20
GAP = 2


def contact_sheet(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int32]) -> bytes:
    """Returns a PNG with a row for each class (the first 20), in their order, and in it the class's first 10 images.

    Args:
      images: uint8 `[N, H, W, C]`, C in {1, 3}.
      labels: `[N]`.
    """
    from PIL import Image

    classes = np.unique(labels)[:MOST_ROWS]
    _, height, width, channels = images.shape
    sheet = np.full((len(classes) * (height + GAP), COLUMNS * (width + GAP), channels), 255, np.uint8)
    for row, label in enumerate(classes):
        for column, index in enumerate(np.flatnonzero(labels == label)[:COLUMNS]):
            top, left = row * (height + GAP), column * (width + GAP)
            sheet[top : top + height, left : left + width] = images[index]
    file = io.BytesIO()
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(file, "PNG")
    return file.getvalue()


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation of each channel, of pixels divided by 255.

    The sums are taken in integers, so nothing is lost to rounding however many images there are; the
    deviation is the population's (divided by N, not N - 1).

    Args:
      images: uint8 `[N, H, W, C]`, N >= 1.

    Returns:
      (mean, std): C numbers each, mean within [0, 1] and std within [0, 0.5].
    """
    pixels = images.size // images.shape[-1]
    total = np.zeros(images.shape[-1], np.int64)
    squares = np.zeros(images.shape[-1], np.int64)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK].astype(np.uint32)
        total += chunk.sum(axis=(0, 1, 2), dtype=np.int64)
        squares += np.square(chunk).sum(axis=(0, 1, 2), dtype=np.int64)
    mean = total / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
