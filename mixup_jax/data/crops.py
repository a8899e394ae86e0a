"""Photographs of any size brought to the square that a network takes: where to cut, and the cutting."""

from __future__ import annotations

import io
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TRIES = 10
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
CENTRE = 0.875
"""The share of the shorter side that evaluation sees: 224 of 256 pixels."""


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
