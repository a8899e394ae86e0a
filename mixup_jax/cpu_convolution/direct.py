"""Convolutions and their gradients as products of matrices, for kernels of any size and any stride.

For one row of outputs, the inputs of a row of the kernel, in all channels, are contiguous in an image.  So an image is
only copied into a larger one with margins, and the products read it there.
"""

import numba

from mixup_jax.cpu_convolution.compiling import symbol
from mixup_jax.cpu_convolution.products import columns_of_panel, product
from mixup_jax.cpu_convolution.vectors import clear, put_inside
from mixup_jax.cpu_convolution.xla_calls import (
    SIZE_ACROSS,
    SIZE_DOWN,
    TASK,
    argument,
    attribute,
    image_shape,
    numbers,
    result,
    share,
    side,
    space_of,
    strides_and_margins,
)


def padded(outputs: int, size: int, stride: int) -> int:
    """Returns the length of an image's side with its margins, as far as the convolution reads it."""
    return (outputs - 1) * stride + size


def padded_gradient(inputs: int, before: int, outputs: int, size: int, stride: int) -> int:
    """Returns the length of a side of the output's gradient with the margins that the images' gradient needs."""
    taps = -(-size // stride)
    return taps - 1 + max(outputs, (inputs - 1 + before) // stride + 1)


@symbol(TASK)
def convolve(frame: int, part: int, parts: int) -> None:
    """Writes the convolution `[B, rows, outputs, K]` of x `[B, H, W, C]` with a kernel, for a part of the images.

    The kernel is `[panels, h, w * C, columns]`.  A part's scratch space holds an image with its margins.
    """
    of_x, of_kernel, of_y, of_space = argument(frame, 0), argument(frame, 1), result(frame, 0), result(frame, 1)
    x, kernel, y = numbers(of_x), numbers(of_kernel), numbers(of_y)
    across, down, left, top = strides_and_margins(frame)
    height, width, channels = image_shape(of_x)
    rows, outputs, maps = image_shape(of_y)
    panels, size, taps, columns = side(of_kernel, 0), side(of_kernel, 1), side(of_kernel, 2), side(of_kernel, 3)
    high, wide = side(of_space, 1), side(of_space, 2)
    stride = wide * channels
    image = space_of(of_space, part)
    clear(high * stride, image)
    first, last = share(side(of_x, 0), part, parts)
    for n in range(first, last):
        put_inside(x, n, (height, width, channels), image, 0, (high, wide), (top, left))
        for i in range(rows):
            for k in range(panels):
                of_image = (i * down * stride, across * channels, stride, 1)
                of_weights = (k * size * taps * columns, taps * columns, columns)
                of_sums = ((n * rows + i) * outputs * maps + k * columns, maps)
                product(outputs, columns, (size, taps), image, of_image, kernel, of_weights, y, of_sums, False)


@symbol(TASK)
def add_products(frame: int, part: int, parts: int) -> None:
    """Writes a part of the kernel's gradient, `[parts, h, w * C, K]`, given x and the output's gradient.

    The scratch space is that of `convolve`.
    """
    of_x, of_gradient, of_totals, of_space = argument(frame, 0), argument(frame, 1), result(frame, 0), result(frame, 1)
    x, gradient, totals = numbers(of_x), numbers(of_gradient), numbers(of_totals)
    across, down, left, top = strides_and_margins(frame)
    height, width, channels = image_shape(of_x)
    rows, outputs, maps = image_shape(of_gradient)
    size, taps = side(of_totals, 1), side(of_totals, 2)
    columns = columns_of_panel(maps)
    high, wide = side(of_space, 1), side(of_space, 2)
    stride = wide * channels
    image = space_of(of_space, part)
    clear(high * stride, image)
    first, last = share(side(of_x, 0), part, parts)
    for n in range(first, last):
        put_inside(x, n, (height, width, channels), image, 0, (high, wide), (top, left))
        for i in range(size):
            for k in range(0, maps, columns):
                of_image = (i * stride, 1, down * stride, across * channels)
                of_outputs = (n * rows * outputs * maps + k, outputs * maps, maps)
                of_sums = ((part * size + i) * taps * maps + k, maps)
                more = n > first
                product(taps, columns, (rows, outputs), image, of_image, gradient, of_outputs, totals, of_sums, more)


@numba.njit
def _taps(size: int, stride: int, parity: int) -> int:
    """Returns how many rows (or columns) of a kernel have a parity, that is, an index modulo the stride."""
    return max(0, (size - parity + stride - 1) // stride)


@numba.njit
def _preceding(size: int, stride: int, parity: int) -> int:
    """Returns how many rows (or columns) of a kernel have a smaller parity."""
    count = 0
    for smaller in range(parity):
        count += _taps(size, stride, smaller)
    return count


@symbol(TASK)
def scatter(frame: int, part: int, parts: int) -> None:
    """Writes the gradient of x for a part of the images, given the output's gradient and a kernel sorted by parity.

    Row q of an image with its margins and row i of the kernel contribute to output (q - i) / stride, so only if q and i
    have the same parity.  For each parity of rows and of columns, that part of the kernel is `[panels, h', w' * K,
    columns]`, in reverse order, with C in panels.  A part's scratch space holds an output's gradient with its margins.
    """
    of_gradient, of_x, of_space = argument(frame, 0), result(frame, 0), result(frame, 1)
    gradient, kernel, x = numbers(of_gradient), numbers(argument(frame, 1)), numbers(of_x)
    across, down, left, top = strides_and_margins(frame)
    size_across, size_down = attribute(frame, SIZE_ACROSS), attribute(frame, SIZE_DOWN)
    rows, outputs, maps = image_shape(of_gradient)
    height, width, channels = image_shape(of_x)
    columns = columns_of_panel(channels)
    high, wide = side(of_space, 1), side(of_space, 2)
    stride = wide * maps
    padded = space_of(of_space, part)
    above, before = (size_down - 1) // down, (size_across - 1) // across
    clear(high * stride, padded)
    first, last = share(side(of_x, 0), part, parts)
    for n in range(first, last):
        put_inside(gradient, n, (rows, outputs, maps), padded, 0, (high, wide), (above, before))
        for q in range(height):
            i, row = (q + top) % down, (q + top) // down
            taps_down = _taps(size_down, down, i)
            for j in range(across):
                taps_across = _taps(size_across, across, j)
                begin = (j - left) % across
                column = (begin + left) // across
                corner = (row - taps_down + 1 + above) * wide + column - taps_across + 1 + before
                count = (width - begin + across - 1) // across
                # The parts of the kernel with smaller parities of rows, and then of columns, come before this one.
                preceding = _preceding(size_down, down, i) * size_across + taps_down * _preceding(
                    size_across, across, j
                )
                for k in range(0, channels, columns):
                    of_outputs = (corner * maps, maps, stride, 1)
                    place = preceding * maps * channels + taps_down * taps_across * maps * k
                    of_weights = (place, taps_across * maps * columns, columns)
                    of_sums = (((n * height + q) * width + begin) * channels + k, across * channels)
                    steps = (taps_down, taps_across * maps)
                    product(count, columns, steps, padded, of_outputs, kernel, of_weights, x, of_sums, False)
