"""3x3 convolutions of many channels by a rule of our own: on a CPU, in a process with one device.

There they are cut into chunks of a few images, so that what a chunk makes on its way stays in the cache, and become
products of matrices by Winograd's minimal filtering F(2x2, 3x3), which has 16 multiplications where there are 36 (Lavin
and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1).  XLA's own are slower there, on
maps smaller than the kernel a hundred times.

It is the convolution in exact arithmetic, and in floating point it rounds about as XLA's own does;
docs/benchmarks.md has what it brings.  Everywhere else the program is XLA's convolution and its gradient, unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
ROWS = 256
"""Of the matrices that are multiplied, at least: enough for their product to be fast, few enough for the cache."""
CHANNELS = 128
"""With fewer, on either side, XLA is as fast."""
MULTIPLICATIONS = 2**29
"""With fewer, XLA is fast enough, and the rule takes a second longer to compile."""
MULTIPLICATIONS_OF_TINY_MAPS = 2**25
"""The same for maps smaller than the kernel, where XLA takes 1 s for what the rule does in 10 ms."""

# Of 4 inputs, of 3 weights, and for 2 outputs (section 4.1).
_OF_INPUTS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_OF_WEIGHTS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_FOR_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))

Pads = Sequence[tuple[int, int]]
Matrix = Sequence[Sequence[float]]
Grid = Sequence[Sequence[jax.Array]]


def conv_general_dilated(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: str | Pads, **settings: Any
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of the same arguments; differentiable in reverse mode alone.

    Images are `[B, H, W, C]` and kernels `[h, w, C, K]`.  Groups, dilations and low precision are always XLA's.

    Args:
      x: images.
      kernel: of the filters.
      strides: along H and W.
      padding: as there.
      **settings: as there.
    """
    # Over several devices a chunk would gather images from all of them.
    if jax.device_count() == 1 and suits(x, kernel, strides, padding, **settings):
        return convolve(x, kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **settings)


def suits(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Pads,
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    feature_group_count: int,
    **_: Any,
) -> bool:
    """Returns whether the rule is for such a convolution, and faster than XLA's."""
    plain = {1} == {*strides, *lhs_dilation, *rhs_dilation, feature_group_count} and kernel.shape[:2] == (3, 3)
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (1, 1), padding) if isinstance(padding, str) else padding
    precise = x.dtype == kernel.dtype and x.dtype in (jnp.float32, jnp.float64)
    padded_by_one = {1} == {side for pair in pads for side in pair}
    least = MULTIPLICATIONS if min(x.shape[1:3]) >= 3 else MULTIPLICATIONS_OF_TINY_MAPS
    large = min(kernel.shape[2:]) >= CHANNELS and x.size // x.shape[3] * kernel.size >= least
    return plain and padded_by_one and precise and large


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution `[B, H, W, K]` of images `[B, H, W, C]` with a kernel `[3, 3, C, K]`, padded by 1.

    It is by the rule on a CPU and by XLA elsewhere.
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_minimal, default=native)


def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution by XLA."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)


def _convolve_forward(x: jax.Array, kernel: jax.Array) -> Any:
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(given: Any, gradient: jax.Array) -> Any:
    def by_xla(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(native, x, kernel)[1](gradient)

    return jax.lax.platform_dependent(*given, gradient, cpu=_backward, default=by_xla)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _backward(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of the images and of the kernel."""
    return _minimal(gradient, kernel[::-1, ::-1].swapaxes(2, 3)), _minimal_kernel_gradient(x, gradient)


def _chunked(x: jax.Array, rows: int) -> jax.Array:
    """Returns `[chunks, images, ..]` of `[B, ..]`; an image gives so many rows to a product of matrices."""
    batch, wanted = x.shape[0], -(-ROWS // max(rows, 1))
    images = next((size for size in range(min(wanted, batch), batch) if batch % size == 0), batch)
    return x.reshape(-1, images, *x.shape[1:])


def _joined(chunks: jax.Array) -> jax.Array:
    return chunks.reshape(-1, *chunks.shape[2:])


def _minimal(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution by minimal filtering."""
    weights = _stacked(_transformed(_OF_WEIGHTS, [[kernel[i, j] for j in range(3)] for i in range(3)]))
    height, width = x.shape[1:3]

    def of_chunk(some: jax.Array) -> jax.Array:
        products = jnp.einsum("atc,ack->atk", _input_tiles(some), weights)
        by_tile = products.reshape(4, 4, -1, -(-height // 2), -(-width // 2), kernel.shape[-1])
        (a, b), (c, d) = _transformed(_FOR_OUTPUTS, by_tile)
        # [n, rows of tiles, 2, columns of tiles, 2, K], and without what is beyond an odd side.
        outputs = jnp.stack([jnp.stack([a, b], axis=3), jnp.stack([c, d], axis=3)], axis=2)
        return outputs.reshape(some.shape[0], 2 * outputs.shape[1], -1, kernel.shape[-1])[:, :height, :width]

    return _joined(jax.lax.map(of_chunk, _chunked(x, _tiles(x))))


def _minimal_kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel of `_minimal`."""

    def add_chunk(total: jax.Array, some: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + jnp.einsum("atc,atk->ack", _input_tiles(some[0]), _output_tiles(some[1])), None

    chunks = _chunked(x, _tiles(x)), _chunked(gradient, _tiles(x))
    total, _ = jax.lax.scan(add_chunk, jnp.zeros((16, x.shape[-1], gradient.shape[-1]), x.dtype), chunks)
    of_weights = total.reshape(4, 4, *total.shape[1:])
    return jnp.stack([jnp.stack(row) for row in _transformed(_transposed(_OF_WEIGHTS), of_weights)])


def _tiles(x: jax.Array) -> int:
    return -(-x.shape[1] // 2) * -(-x.shape[2] // 2)


def _input_tiles(x: jax.Array) -> jax.Array:
    """Returns the transformed tiles of 4 x 4 inputs, which overlap by 2: `[16, tiles, C]`."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    down, across = padded.shape[1] - 3, padded.shape[2] - 3
    grid = [[padded[:, i : i + down : 2, j : j + across : 2] for j in range(4)] for i in range(4)]
    return _stacked(_transformed(_OF_INPUTS, grid)).reshape(16, -1, x.shape[-1])


def _output_tiles(gradient: jax.Array) -> jax.Array:
    """Returns the gradients of the tiles' 16 products, of those of the outputs: `[16, tiles, K]`."""
    height, width = gradient.shape[1:3]
    padded = jnp.pad(gradient, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    grid = [[padded[:, i::2, j::2] for j in range(2)] for i in range(2)]
    return _stacked(_transformed(_transposed(_FOR_OUTPUTS), grid)).reshape(16, -1, gradient.shape[-1])


def _transformed(matrix: Matrix, grid: Any) -> Grid:
    """Returns M G M^T for a matrix M of numbers and a grid G of arrays."""
    columns = [_combined(matrix, [row[j] for row in grid]) for j in range(len(grid[0]))]
    return [_combined(matrix, [column[i] for column in columns]) for i in range(len(matrix))]


def _combined(matrix: Matrix, parts: Sequence[jax.Array]) -> list[jax.Array]:
    return [reduce(add, (number * part for number, part in zip(row, parts, strict=True) if number)) for row in matrix]


def _transposed(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))


def _stacked(grid: Grid) -> jax.Array:
    return jnp.stack([array for row in grid for array in row])
