"""3x3 convolutions as products of matrices, by Winograd's minimal filtering F(2x2, 3x3), for a CPU.

It has 16 multiplications where there are 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
CVPR 2016, section 4.1).  The images are cut into chunks of a few, so that what a chunk makes on its way stays in the
cache.  It is the convolution in exact arithmetic, and in floating point it rounds about as XLA's own does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp

ROWS = 256
"""Of the matrices that are multiplied, at least: enough for their product to be fast, few enough for the cache."""

# Of 4 inputs, of 3 weights, and for 2 outputs (section 4.1).
_OF_INPUTS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_OF_WEIGHTS = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_FOR_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))

Matrix = Sequence[Sequence[float]]
Grid = list[list[jax.Array]]


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the convolution `[B, H, W, K]` of images `[B, H, W, C]` with a kernel `[3, 3, C, K]`, padded by 1."""
    return _filtered(x, [[kernel[i, j] for j in range(3)] for i in range(3)], contracted=0)


def image_gradient(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the gradient of the images, `[B, H, W, C]`, of that of the convolution, `[B, H, W, K]`."""
    # It is a convolution with the kernel turned round.  C and K are exchanged by the product: matrices of 512 x 512
    # take longer to transpose than to multiply with.
    return _filtered(gradient, [[kernel[2 - i, 2 - j] for j in range(3)] for i in range(3)], contracted=1)


def kernel_gradient(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel, `[3, 3, C, K]`, given the images and the gradient of the convolution."""

    def add_chunk(totals: Grid, some: tuple[jax.Array, jax.Array]) -> tuple[Grid, None]:
        tiles = _input_tiles(some[0]), _output_tiles(some[1])
        return _each(lambda total, a, b: total + a.T @ b, totals, *tiles), None

    chunks = _chunked(x, _tiles(x)), _chunked(gradient, _tiles(x))
    nothing = [[jnp.zeros((x.shape[-1], gradient.shape[-1]), x.dtype) for _ in range(4)] for _ in range(4)]
    totals, _ = jax.lax.scan(add_chunk, nothing, chunks)
    return jnp.stack([jnp.stack(row) for row in _transformed(_transposed(_OF_WEIGHTS), totals)])


def _filtered(x: jax.Array, taps: Grid, contracted: int) -> jax.Array:
    """Returns the images filtered by 3 x 3 matrices `[C, K]`, summed over the side `contracted` of these."""
    height, width = x.shape[1:3]
    weights = _transformed(_OF_WEIGHTS, taps)
    down, across = -(-height // 2), -(-width // 2)

    def product(tiles: jax.Array, weight: jax.Array) -> jax.Array:
        summed = jax.lax.dot_general(tiles, weight, (((1,), (contracted,)), ((), ())))
        return summed.reshape(-1, down, across, summed.shape[1])

    def of_chunk(some: jax.Array) -> jax.Array:
        (a, b), (c, d) = _transformed(_FOR_OUTPUTS, _each(product, _input_tiles(some), weights))
        # [n, rows of tiles, 2, columns of tiles, 2, K], and without what is beyond an odd side.
        outputs = jnp.stack([jnp.stack([a, b], axis=3), jnp.stack([c, d], axis=3)], axis=2)
        return outputs.reshape(some.shape[0], 2 * down, 2 * across, -1)[:, :height, :width]

    chunks = jax.lax.map(of_chunk, _chunked(x, _tiles(x)))
    return chunks.reshape(-1, *chunks.shape[2:])


def _chunked(x: jax.Array, rows: int) -> jax.Array:
    """Returns `[chunks, images, ..]` of `[B, ..]`; an image gives so many rows to a product of matrices."""
    batch, wanted = x.shape[0], -(-ROWS // max(rows, 1))
    images = next((size for size in range(min(wanted, batch), batch) if batch % size == 0), batch)
    return x.reshape(-1, images, *x.shape[1:])


def _tiles(x: jax.Array) -> int:
    return -(-x.shape[1] // 2) * -(-x.shape[2] // 2)


def _input_tiles(x: jax.Array) -> Grid:
    """Returns the transformed tiles of 4 x 4 inputs, which overlap by 2: 4 x 4 of `[tiles, C]`."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1 + height % 2), (1, 1 + width % 2), (0, 0)))
    down, across = padded.shape[1] - 3, padded.shape[2] - 3
    grid = [[padded[:, i : i + down : 2, j : j + across : 2] for j in range(4)] for i in range(4)]
    return _each(_rows, _transformed(_OF_INPUTS, grid))


def _output_tiles(gradient: jax.Array) -> Grid:
    """Returns the gradients of the tiles' 16 products, of those of the outputs: 4 x 4 of `[tiles, K]`."""
    height, width = gradient.shape[1:3]
    padded = jnp.pad(gradient, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    grid = [[padded[:, i::2, j::2] for j in range(2)] for i in range(2)]
    return _each(_rows, _transformed(_transposed(_FOR_OUTPUTS), grid))


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _each(function: Callable[..., jax.Array], *grids: Grid) -> Grid:
    return [[function(*cells) for cells in zip(*rows, strict=True)] for rows in zip(*grids, strict=True)]


def _transformed(matrix: Matrix, grid: Grid) -> Grid:
    """Returns M G M^T for a matrix M of numbers and a grid G of arrays."""
    columns = [_combined(matrix, [row[j] for row in grid]) for j in range(len(grid[0]))]
    return [_combined(matrix, [column[i] for column in columns]) for i in range(len(matrix))]


def _combined(matrix: Matrix, parts: Sequence[jax.Array]) -> list[jax.Array]:
    return [reduce(add, (number * part for number, part in zip(row, parts, strict=True) if number)) for row in matrix]


def _transposed(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))
