"""Images with a margin of zeros around them."""

from __future__ import annotations

from typing import Any

import numba

from mixup_jax.cpu_convolution.instructions import copy


@numba.njit
def put_inside(
    x: Any,
    number: int,
    shape: tuple[int, int, int],
    target: Any,
    start: int,
    sides: tuple[int, int],
    corner: tuple[int, int],
) -> None:
    """Copies an image to a place within a larger one, as far as it fits.

    Args:
      x: images.
      number: which of them.
      shape: `(H, W, C)` of each.
      target: for the larger image.
      start: its place there.
      sides: its height and width.
      corner: the row and the column that the image begins at.
    """
    height, width, channels = shape
    rows, row = min(height, sides[0] - corner[0]), max(0, min(width, sides[1] - corner[1])) * channels
    for i in range(rows):
        source = (number * height + i) * width * channels
        place = start + ((corner[0] + i) * sides[1] + corner[1]) * channels
        copy(row, x, source, target, place)
