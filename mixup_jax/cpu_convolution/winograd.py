"""3x3 convolutions by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications instead of 36.

A tile is the 4 x 4 inputs that 2 x 2 outputs depend on.  Tiles and kernel are transformed, multiplied element by
element and summed over the channels (as 16 products of matrices), and transformed back (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1).  All of this is done for one block of tiles at a
time, which fits the cache.

In exact arithmetic the result is the convolution; its rounding errors are about those of a sum of products.
"""

from typing import Any, NamedTuple

import numba

from mixup_jax.cpu_convolution.compiling import symbol
from mixup_jax.cpu_convolution.products import columns_of_panel, product
from mixup_jax.cpu_convolution.vectors import clear, put_inside, transformation
from mixup_jax.cpu_convolution.xla_calls import TASK, argument, image_shape, numbers, result, share, side, space_of

CELLS = 16
"""Elements of a tile."""
_TILES, _TILES_OF_GRADIENT = 28, 112
# The most tiles in a block: few enough for the cache, and enough that the transformed kernel is seldom read.

# The transformation matrices of 4 inputs, of 3 weights, and for 2 outputs (section 4.1).
_OF_INPUTS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_OF_WEIGHTS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_FOR_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))

_transform_inputs, _transform_weights, _transform_sums = map(transformation, (_OF_INPUTS, _OF_WEIGHTS, _FOR_OUTPUTS))
_transform_totals, _transform_gradients = (
    transformation(tuple(zip(*matrix, strict=True))) for matrix in (_OF_WEIGHTS, _FOR_OUTPUTS)
)


class _Tiling(NamedTuple):
    """How images are cut into tiles: `down` and `across` an image, computed in blocks of at most `tiles`.

    A group of `images` is copied at a time.
    """

    down: int
    across: int
    images: int
    tiles: int


@numba.njit
def _tiling(height: int, width: int, most: int) -> _Tiling:
    down, across = (height + 1) // 2, (width + 1) // 2
    images = max(1, most // (down * across))
    return _Tiling(down, across, images, min(most, images * down * across))


def scratch(image: tuple[int, ...], maps: int) -> int:
    """Returns how many numbers of scratch space a part of the convolution needs."""
    height, width, channels = image
    cut = _tiling.py_func(height, width, _TILES)
    group = cut.images * (2 * cut.down + 2) * (2 * cut.across + 2) * channels
    return group + CELLS * cut.tiles * (channels + columns_of_panel.py_func(maps))


def scratch_of_gradient(image: tuple[int, ...], maps: int) -> int:
    """Returns how many numbers of scratch space a part of the kernel's gradient needs."""
    height, width, channels = image
    cut = _tiling.py_func(height, width, _TILES_OF_GRADIENT)
    groups = cut.images * ((2 * cut.down + 2) * (2 * cut.across + 2) * channels + 4 * cut.down * cut.across * maps)
    return groups + CELLS * cut.tiles * (channels + maps)


@numba.njit
def _corner(tile: int, cut: _Tiling) -> tuple[int, int, int]:
    """Returns a tile's image in the group, and the row and column of its first output."""
    image, rest = divmod(tile, cut.down * cut.across)
    i, j = divmod(rest, cut.across)
    return image, 2 * i, 2 * j


@numba.njit
def _transform_tiles(start: int, count: int, cut: _Tiling, group: Any, channels: int, inputs: Any) -> None:
    """Writes `[16, tiles, C]` for a block of tiles of a group `[images, 2 down + 2, 2 across + 2, C]`."""
    high, wide = 2 * cut.down + 2, 2 * cut.across + 2
    for tile in range(count):
        image, i, j = _corner(start + tile, cut)
        source = (((image * high + i) * wide + j) * channels, wide * channels, channels)
        target = (tile * channels, 4 * cut.tiles * channels, cut.tiles * channels)
        _transform_inputs(channels, group, source, inputs, target)


@symbol(TASK)
def transform_kernel(frame: int, part: int, parts: int) -> None:
    """Writes the second result of `convolve`, `[panels, 16, C, columns]`, for a part of the channels."""
    of_kernel, of_weights = argument(frame, 1), result(frame, 1)
    kernel, weights = numbers(of_kernel), numbers(of_weights)
    channels, maps, columns = side(of_kernel, 2), side(of_kernel, 3), side(of_weights, 3)
    first, last = share(channels, part, parts)
    for channel in range(first, last):
        for k in range(side(of_weights, 0)):
            source = (channel * maps + k * columns, 3 * channels * maps, channels * maps)
            target = ((k * CELLS * channels + channel) * columns, 4 * channels * columns, channels * columns)
            _transform_weights(columns, kernel, source, weights, target)


@symbol(TASK)
def convolve(frame: int, part: int, parts: int) -> None:
    """Writes the convolution `[B, H, W, K]` of x `[B, H, W, C]`, padded by 1, with the kernel for a part of the images.

    It reads the transformed kernel.
    """
    of_x, of_weights = argument(frame, 0), result(frame, 1)
    x, weights, y, group = (
        numbers(of_x),
        numbers(of_weights),
        numbers(result(frame, 0)),
        space_of(result(frame, 2), part),
    )
    height, width, channels = image_shape(of_x)
    panels, columns = side(of_weights, 0), side(of_weights, 3)
    maps = panels * columns
    cut = _tiling(height, width, _TILES)
    sides = (2 * cut.down + 2, 2 * cut.across + 2)
    size = sides[0] * sides[1] * channels
    inputs = group[cut.images * size :]
    sums = inputs[CELLS * cut.tiles * channels :]
    clear(cut.images * size, group)
    first, last = share(side(of_x, 0), part, parts)
    for image in range(first, last, cut.images):
        count = min(cut.images, last - image)
        for member in range(count):
            put_inside(x, image + member, (height, width, channels), group, member * size, sides, (1, 1))
        tiles = count * cut.down * cut.across
        for start in range(0, tiles, cut.tiles):
            some = min(cut.tiles, tiles - start)
            _transform_tiles(start, some, cut, group, channels, inputs)
            for k in range(panels):
                for cell in range(CELLS):
                    of_inputs = (cell * cut.tiles * channels, channels, 0, 1)
                    of_cell = ((k * CELLS + cell) * channels * columns, 0, columns)
                    of_sums = (cell * cut.tiles * columns, columns)
                    product(some, columns, (1, channels), inputs, of_inputs, weights, of_cell, sums, of_sums, False)
                for tile in range(some):
                    member, i, j = _corner(start + tile, cut)
                    source = (tile * columns, 4 * cut.tiles * columns, cut.tiles * columns)
                    place = (((image + member) * height + i) * width + j) * maps + k * columns
                    # At an odd side, the outputs beyond it are written to the first place and overwritten.
                    target = (place, width * maps if i + 1 < height else 0, maps if j + 1 < width else 0)
                    _transform_sums(columns, sums, source, y, target)


@numba.njit
def _add_cells(
    count: int,
    cut: _Tiling,
    inputs: Any,
    channels: int,
    gradients: Any,
    maps: int,
    totals: Any,
    part: int,
    more: bool,
) -> None:
    """Adds the products of a block's inputs `[16, tiles, C]` and gradients `[16, tiles, K]` to `[16, C, K]`."""
    columns = columns_of_panel(maps)
    for cell in range(CELLS):
        for k in range(0, maps, columns):
            of_inputs = (cell * cut.tiles * channels, 1, 0, channels)
            of_gradients = (cell * cut.tiles * maps + k, 0, maps)
            of_totals = ((part * CELLS + cell) * channels * maps + k, maps)
            product(channels, columns, (1, count), inputs, of_inputs, gradients, of_gradients, totals, of_totals, more)


@symbol(TASK)
def add_products(frame: int, part: int, parts: int) -> None:
    """Writes a part of the kernel's gradient, `[parts, 3, 3, C, K]`, given x and the output's gradient.

    The second result, `[parts, 16, C, K]`, is the gradient of the transformed kernel.
    """
    of_x, of_gradient = argument(frame, 0), argument(frame, 1)
    x, gradient, totals = numbers(of_x), numbers(of_gradient), numbers(result(frame, 1))
    group = space_of(result(frame, 2), part)
    (height, width, channels), maps = image_shape(of_x), side(of_gradient, 3)
    cut = _tiling(height, width, _TILES_OF_GRADIENT)
    sides, even = (2 * cut.down + 2, 2 * cut.across + 2), (2 * cut.down, 2 * cut.across)
    size, size_of_outputs = sides[0] * sides[1] * channels, even[0] * even[1] * maps
    outputs = group[cut.images * size :]
    inputs = outputs[cut.images * size_of_outputs :]
    gradients = inputs[CELLS * cut.tiles * channels :]
    clear(cut.images * (size + size_of_outputs), group)
    first, last = share(side(of_x, 0), part, parts)
    for image in range(first, last, cut.images):
        count = min(cut.images, last - image)
        for member in range(count):
            put_inside(x, image + member, (height, width, channels), group, member * size, sides, (1, 1))
            corner = member * size_of_outputs
            put_inside(gradient, image + member, (height, width, maps), outputs, corner, even, (0, 0))
        tiles = count * cut.down * cut.across
        for start in range(0, tiles, cut.tiles):
            some = min(cut.tiles, tiles - start)
            _transform_tiles(start, some, cut, group, channels, inputs)
            for tile in range(some):
                member, i, j = _corner(start + tile, cut)
                source = (((member * even[0] + i) * even[1] + j) * maps, even[1] * maps, maps)
                target = (tile * maps, 4 * cut.tiles * maps, cut.tiles * maps)
                _transform_gradients(maps, outputs, source, gradients, target)
            _add_cells(some, cut, inputs, channels, gradients, maps, totals, part, image > first or start > 0)
    size = channels * maps
    source, target = (part * CELLS * size, 4 * size, size), (part * 9 * size, 3 * size, size)
    _transform_totals(size, totals, source, numbers(result(frame, 0)), target)
