"""Winograd's transformations of small grids of vectors, by matrices of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixup_jax.cpu_convolution.instructions import VECTOR, ZEROS, beyond, data, load, number, store
from mixup_jax.cpu_convolution.registers import LANES

Matrix = Sequence[Sequence[float]]


def transformation(matrix: Matrix) -> Callable[..., None]:
    """Returns an intrinsic that writes M G M^T for a matrix M of numbers and a grid G of arrays of numbers.

    It takes `length`, of each of the arrays and a multiple of `LANES`; `source`, an array of one dimension, with the
    place of the grid's first number and how far its next row and next column are; and `target`, likewise.
    The first row and column are written last: what falls beside an image can be written to the place of
    what does not.

    Args:
      matrix: M.
    """
    outputs, inputs = len(matrix), len(matrix[0])

    @intrinsic
    def transform(typing: Any, length: Any, source: Any, of_source: Any, target: Any, of_target: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
            whole = types.UniTuple(types.int64, 3)
            read, written = (
                (
                    data(context, builder, signature, given, at),
                    cgutils.unpack_tuple(
                        builder, context.cast(builder, given[at + 1], signature.args[at + 1], whole), 3
                    ),
                )
                for at in (1, 3)
            )

            def cell(side: Any, shift: Any, i: int, j: int) -> Any:
                base, (start, row, column) = side
                one = number(1)
                return beyond(builder, base, (start, one), (shift, one), (row, number(i)), (column, number(j)))

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
    """Returns the sum of some vectors, each times a number, of which one at least is not 0."""
    total = None
    for factor, part in zip(row, parts, strict=True):
        scaled = part if abs(factor) == 1 else builder.fmul(part, ir.Constant(VECTOR, [abs(factor)] * LANES))
        if factor > 0:
            total = scaled if total is None else builder.fadd(total, scaled)
        elif factor < 0:
            total = builder.fsub(ZEROS if total is None else total, scaled)
    return total
