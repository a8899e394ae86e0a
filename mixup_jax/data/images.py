"""Brings images of any size to a network's input shape, measures them, and draws contact sheets."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA", "La")
"""Pillow's grey modes of at most 8 bits."""
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF orientation -> the operation that turns the image upright."""
TRIES = 10
"""The most rectangles that a random crop draws until one fits."""
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
CENTRE = 0.875
"""The share of the shorter side that evaluation uses: 224 of 256 pixels."""
COLUMNS, MOST_ROWS, GAP = 10, 20, 2
"""Of a contact sheet: images per class, classes, and pixels between images."""
CHUNK = 4096
"""The number of images whose pixels are summed at once."""


class Box(NamedTuple):
    """A rectangle in an image, in pixels; whole numbers except for the centre crop."""

    left: float
    top: float
    width: float
    height: float


def random_box(width: int, height: int, draws: npt.NDArray[np.float64]) -> Box:
    """Returns the rectangle of a random-resized crop (Szegedy et al., "Going Deeper with Convolutions", 2015).

    Each try draws an area, uniform in 8 % to 100 % of the image's, and an aspect ratio (width / height),
    log-uniform in 3/4 to 4/3; the first rectangle that fits is placed uniformly.  If none of the tries fits,
    the result is the largest rectangle in the middle whose aspect ratio is within these bounds.

    `draws` are uniform in [0, 1), `[tries, 4]`: area, aspect ratio, left and top of each try.
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

    Resized to `size` pixels, it equals the middle of the image after its shorter side is resized to
    size / 0.875, except that no side is rounded in between.
    """
    side = CENTRE * min(width, height)
    return Box((width - side) / 2, (height - side) / 2, side, side)


def decode(data: bytes, size: int, draws: npt.NDArray[np.float64] | None) -> npt.NDArray[np.uint8]:
    """Decodes an image file and resizes a rectangle of it to uint8 `[size, size, 3]`; grey becomes colour.

    The rectangle is `random_box` of the draws, or the centre for None.  Pillow's bilinear filter averages over more
    pixels when it shrinks an image; at the edge of the rectangle it may use pixels beyond it.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as file:
        return cut(file, (size, size, 3), draws)


def cut(picture: Image.Image, shape: tuple[int, ...], draws: npt.NDArray[np.float64] | None) -> npt.NDArray[np.uint8]:
    """Cuts a rectangle out of an image, as `decode` does, and resizes it to uint8 `[H, W, C]`."""
    from PIL import Image

    height, width, channels = shape
    picture = picture.convert("L" if channels == 1 else "RGB")
    box = centre_box(*picture.size) if draws is None else random_box(*picture.size, draws)
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=corners)).reshape(shape)


def open_upright(image: Path | bytes | npt.NDArray[np.uint8]) -> Image.Image:
    """Decodes an image of any kind to mode L or RGB, 8 bits a channel, turned as its EXIF data say.

    `image` is a file, its bytes, or pixels `[h, w, c]`, c in {1, 3}.  16 bits become 8 by division by 257, CMYK and
    palettes become RGB, transparency is dropped, and the first of several frames is used.  If the image cannot be
    decoded, Pillow may raise any exception; floating-point pixels raise ValueError.
    """
    from PIL import Image

    if isinstance(image, np.ndarray):
        return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:
        file.load()
        if file.mode.startswith("I"):
            values = np.asarray(file).astype(np.int64)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError(f"pixels from {values.min()} to {values.max()}; expected at most 16 bits")
            picture = Image.fromarray(((values + 128) // 257).astype(np.uint8))
        elif file.mode == "F":
            raise ValueError("floating-point pixels; expected whole numbers")
        else:
            picture = file.convert("L" if file.mode in GREY_MODES else "RGB")
        turn = _TURNS.get(_orientation(file))
    return picture if turn is None else picture.transpose(getattr(Image.Transpose, turn))


def shape_of(image: Path | bytes | npt.NDArray[np.uint8]) -> tuple[int, ...]:
    """Returns the (H, W, C) of `open_upright`'s result; of a file it reads only the header."""
    from PIL import Image

    if isinstance(image, np.ndarray):
        return image.shape
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as file:
        width, height = file.size[::-1] if _orientation(file) in (5, 6, 7, 8) else file.size
        return height, width, 1 if file.mode in GREY_MODES or file.mode.startswith("I") else 3


def _orientation(file: Image.Image) -> int:
    with contextlib.suppress(Exception):  # EXIF data may be damaged although the image is not
        return int(file.getexif().get(0x0112, 1))
    return 1


def match_shape(images: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Returns images uint8 `[N, h, w, c]` as `[N, H, W, C]`, the shape (H, W, C) with 1 or 3 channels, by `fit`."""
    if images.shape[1:] == shape:
        return images
    out = np.empty((len(images), *shape), np.uint8)
    for row, pixels in zip(out, images, strict=True):
        row[:] = fit(open_upright(pixels), shape)
    return out


def fit(picture: Image.Image, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Cuts the largest box of the wanted aspect ratio out of an image's middle and resizes it to uint8 `[H, W, C]`.

    The filter is Pillow's bilinear one, which averages over all pixels when it shrinks an image (anti-aliasing).
    """
    from PIL import Image

    height, width, channels = shape
    picture = picture.convert("L" if channels == 1 else "RGB")
    scale = min(picture.width / width, picture.height / height)
    cut_width, cut_height = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (picture.width - cut_width) // 2, (picture.height - cut_height) // 2
    # Cut first: with `resize(box=...)`, pixels outside of the box would affect its edge.
    cut = picture.crop((left, top, left + cut_width, top + cut_height))
    return np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR)).reshape(shape)


def rows_of_sheet(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Returns which images `contact_sheet` shows, int64."""
    return np.concatenate([np.flatnonzero(labels == label)[:COLUMNS] for label in np.unique(labels)[:MOST_ROWS]])


def contact_sheet(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int32]) -> bytes:
    """Returns a PNG with the first 10 images of each class, one row per class, for the first 20 classes."""
    classes = np.unique(labels)[:MOST_ROWS]
    _, height, width, channels = images.shape
    sheet = np.full((len(classes) * (height + GAP), COLUMNS * (width + GAP), channels), 255, np.uint8)
    for row, label in enumerate(classes):
        for column, index in enumerate(np.flatnonzero(labels == label)[:COLUMNS]):
            top, left = row * (height + GAP), column * (width + GAP)
            sheet[top : top + height, left : left + width] = images[index]
    file = io.BytesIO()
    open_upright(sheet).save(file, "PNG")
    return file.getvalue()


class PixelSums:
    """Sums of pixels and of their squares by channel, from which mean and deviation are computed.

    The sums are integers, so there is no rounding error for any number of images.
    """

    def __init__(self) -> None:
        self._pixels: int = 0
        self._total: Any = 0
        self._squares: Any = 0

    def add(self, images: npt.NDArray[np.uint8]) -> None:
        """Adds images `[N, H, W, C]`."""
        wide = images.astype(np.uint32)
        self._pixels += images.size // images.shape[-1]
        self._total = self._total + wide.sum(axis=(0, 1, 2), dtype=np.int64)
        self._squares = self._squares + np.square(wide).sum(axis=(0, 1, 2), dtype=np.int64)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns (mean, std) as `channel_statistics` does."""
        mean = self._total / self._pixels
        std = np.sqrt(self._squares / self._pixels - mean**2)
        return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation of each channel, of pixels divided by 255.

    The deviation is the population's (divided by N, not N - 1).
    """
    sums = PixelSums()
    for start in range(0, len(images), CHUNK):
        sums.add(images[start : start + CHUNK])
    return sums.statistics()
