"""Loads, stores, copies and Winograd's transformations, written as LLVM instructions.

Distances in memory are counted in float32 numbers (4 bytes).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixup_jax.cpu_convolution.compiling import LANES

INDEX = ir.IntType(64)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)
Matrix = Sequence[Sequence[float]]


def number(value: int) -> ir.Constant:
    """Returns a 64-bit integer constant."""
    return ir.Constant(INDEX, value)


def offset(builder: ir.IRBuilder, base: Any, *terms: tuple[Any, Any]) -> Any:
    """Returns the address `base` plus a sum of products."""
    return builder.gep(base, [reduce(builder.add, (builder.mul(*term) for term in terms))])


def load(builder: ir.IRBuilder, address: Any) -> Any:
    """Returns the vector at an address."""
    return builder.load(builder.bitcast(address, VECTOR.as_pointer()), align=4)


def store(builder: ir.IRBuilder, value: Any, address: Any) -> None:
    """Writes a vector to an address."""
    builder.store(value, builder.bitcast(address, VECTOR.as_pointer()), align=4)


def data(context: Any, builder: ir.IRBuilder, signature: Any, given: Sequence[Any], place: int) -> Any:
    """Returns the address of the numbers of an array argument."""
    return context.make_array(signature.args[place])(context, builder, given[place]).data


@intrinsic
def address(typing: Any, array: Any, place: Any) -> Any:
    """Returns the address of an element of an array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        base = data(context, builder, signature, given, 0)
        return builder.ptrtoint(offset(builder, base, (given[1], number(1))), INDEX)

    return types.int64(array, types.int64), generate


@intrinsic
def clear(typing: Any, count: Any, target: Any) -> Any:
    """Sets the first `count` numbers of an array to zero."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        base = data(context, builder, signature, given, 1)
        cgutils.memset(builder, base, builder.mul(given[0], number(4)), 0)
        return context.get_dummy_value()

    return types.void(types.int64, target), generate


@intrinsic
def copy(typing: Any, count: Any, source: Any, start: Any, target: Any, place: Any) -> Any:
    """Copies `count` numbers of an array, from `start` on, to `place` in another array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        source, target = (
            offset(builder, data(context, builder, signature, given, at), (given[at + 1], number(1))) for at in (1, 3)
        )
        cgutils.raw_memcpy(builder, target, source, given[0], 4)
        return context.get_dummy_value()

    return types.void(types.int64, source, types.int64, target, types.int64), generate


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
    """Copies image `number` of x, of shape `(H, W, C)`, into a larger one, as far as it fits.

    The larger image begins at `start` in `target` and has height and width `sides`.  The image goes to its row and
    column `corner`.
    """
    height, width, channels = shape
    rows, row = min(height, sides[0] - corner[0]), max(0, min(width, sides[1] - corner[1])) * channels
    for i in range(rows):
        source = (number * height + i) * width * channels
        place = start + ((corner[0] + i) * sides[1] + corner[1]) * channels
        copy(row, x, source, target, place)


def transformation(matrix: Matrix) -> Callable[..., None]:
    """Returns an intrinsic that writes M G M^T for a matrix M of numbers and a square grid G of arrays.

    The intrinsic takes `length`, the length of each array in the grid, a multiple of `LANES`; `source`, an array of one
    dimension, with the place of the grid's first number and the distances to its next row and its next column; and
    `target` likewise.  The first row and column are written last, so that values beyond an image's edge may be written
    to the same place and are then overwritten.
    """
    outputs, inputs = len(matrix), len(matrix[0])

    @intrinsic
    def transform(typing: Any, length: Any, source: Any, of_source: Any, target: Any, of_target: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
            whole = types.UniTuple(types.int64, 3)

            def side(at: int) -> tuple[Any, Any]:
                places = context.cast(builder, given[at + 1], signature.args[at + 1], whole)
                return data(context, builder, signature, given, at), cgutils.unpack_tuple(builder, places, 3)

            read, written = side(1), side(3)

            def cell(side: Any, shift: Any, i: int, j: int) -> Any:
                base, (start, row, column) = side
                one = number(1)
                return offset(builder, base, (start, one), (shift, one), (row, number(i)), (column, number(j)))

            with cgutils.for_range(builder, builder.udiv(given[0], number(LANES))) as loop:
                shift = builder.mul(loop.index, number(LANES))
                grid = [[load(builder, cell(read, shift, i, j)) for j in range(inputs)] for i in range(inputs)]
                columns = [[_combined(builder, row, part) for row in matrix] for part in zip(*grid, strict=True)]
                for i in reversed(range(outputs)):
                    values = [_combined(builder, row, [column[i] for column in columns]) for row in matrix]
                    for j in reversed(range(outputs)):
                        store(builder, values[j], cell(written, shift, i, j))
            return context.get_dummy_value()

        return types.void(types.int64, source, of_source, target, of_target), generate

    return transform


def _combined(builder: ir.IRBuilder, row: Sequence[float], parts: Sequence[Any]) -> Any:
    """Returns the sum of vectors times numbers; at least one number is not 0."""
    total = None
    for factor, part in zip(row, parts, strict=True):
        scaled = part if abs(factor) == 1 else builder.fmul(part, ir.Constant(VECTOR, [abs(factor)] * LANES))
        if factor > 0:
            total = scaled if total is None else builder.fadd(total, scaled)
        elif factor < 0:
            total = builder.fsub(ZEROS if total is None else total, scaled)
    return total
