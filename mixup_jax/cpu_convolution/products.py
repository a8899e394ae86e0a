"""Products of matrices whose sums stay in registers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixup_jax.cpu_convolution.compiling import LANES, ROWS, symbol
from mixup_jax.cpu_convolution.vectors import VECTOR, ZEROS, address, load, number, offset, store


def _repeated(builder: ir.IRBuilder, address: Any) -> Any:
    """Returns a vector filled with the number at an address."""
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), builder.load(address, align=4), number(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _multiplied(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """Returns a b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32"), [a, b, c])


@contextmanager
def _steps(builder: ir.IRBuilder, count: Any, *sides: tuple[Any, Any]) -> Iterator[list[Any]]:
    """Writes a loop of `count` steps; yields its addresses, given the start and the increment of each."""
    with cgutils.for_range(builder, count) as loop:
        yield [offset(builder, base, (loop.index, step)) for base, step in sides]


def _sums_of_products(builder: ir.IRBuilder, vectors: int, rows: int, matrices: Sequence[Any], given: Any) -> None:
    """Writes the instructions of `product` for `rows` rows of `vectors` vectors each."""
    a, b, c = matrices
    outer, inner, a_row, a_outer, a_inner, b_outer, b_inner, c_row, more = given
    places = [(row, vector) for row in range(rows) for vector in range(vectors)]
    at = [offset(builder, c, (c_row, number(row)), (number(vector), number(LANES))) for row, vector in places]
    # LLVM keeps these variables in registers.
    sums = [cgutils.alloca_once(builder, VECTOR) for _ in places]
    for total in sums:
        builder.store(ZEROS, total)
    with builder.if_then(builder.icmp_signed("!=", more, number(0))):
        for total, place in zip(sums, at, strict=True):
            builder.store(load(builder, place), total)
    with (
        _steps(builder, outer, (a, a_outer), (b, b_outer)) as (a_near, b_near),
        _steps(builder, inner, (a_near, a_inner), (b_near, b_inner)) as (a_here, b_here),
    ):
        right = [load(builder, offset(builder, b_here, (number(v), number(LANES)))) for v in range(vectors)]
        left = [_repeated(builder, offset(builder, a_here, (a_row, number(row)))) for row in range(rows)]
        for total, (row, vector) in zip(sums, places, strict=True):
            builder.store(_multiplied(builder, left[row], right[vector], builder.load(total)), total)
    for total, place in zip(sums, at, strict=True):
        store(builder, builder.load(total), place)


_PRODUCTS = types.void(*[types.int64] * 14)


@intrinsic
def _block(
    typing: Any,
    vectors: Any,
    rows: Any,
    a: Any,
    b: Any,
    c: Any,
    outer: Any,
    inner: Any,
    a_row: Any,
    a_outer: Any,
    a_inner: Any,
    b_outer: Any,
    b_inner: Any,
    c_row: Any,
    more: Any,
) -> Any:
    """Computes `product` for one or two vectors a row and a number of rows that is in `ROWS`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        vectors, rows = given[:2]
        matrices = [builder.inttoptr(matrix, ir.FloatType().as_pointer()) for matrix in given[2:5]]
        end = builder.append_basic_block()
        choice = builder.switch(builder.add(builder.mul(vectors, number(ROWS[0] + 1)), rows), end)
        for wide, high in ((wide, high) for wide in (1, 2) for high in ROWS):
            case = builder.append_basic_block()
            choice.add_case(number(wide * (ROWS[0] + 1) + high), case)
            builder.position_at_end(case)
            _sums_of_products(builder, wide, high, matrices, given[5:])
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return _PRODUCTS, generate


@symbol(_PRODUCTS)
def _products(
    vectors: int,
    rows: int,
    a: int,
    b: int,
    c: int,
    outer: int,
    inner: int,
    a_row: int,
    a_outer: int,
    a_inner: int,
    b_outer: int,
    b_inner: int,
    c_row: int,
    more: int,
) -> None:
    while rows > 0:
        # Blocks of about the same size, because a last block of few rows would be slow.
        blocks = (rows + ROWS[0] - 1) // ROWS[0]
        count = 1
        for possible in ROWS:
            if count == 1 and possible * blocks <= rows + blocks - 1:
                count = possible
        _block(vectors, count, a, b, c, outer, inner, a_row, a_outer, a_inner, b_outer, b_inner, c_row, more)
        rows, a, c = rows - count, a + 4 * a_row * count, c + 4 * c_row * count


@numba.njit
def product(
    rows: int, columns: int, steps: Any, a: Any, of_a: Any, b: Any, of_b: Any, c: Any, of_c: Any, more: bool
) -> None:
    """Writes c[m, n] = sum over i, j of a[m, i, j] b[i, j, n], or adds it to c.

    The arrays have one dimension.  The place of an element is a start plus each index times a factor; that of n is 1.

    Args:
      rows: number of m.
      columns: number of n: `LANES` or twice that.
      steps: numbers of i and of j.
      a: left factor.
      of_a: its start, and the factors of m, i and j.
      b: right factor.
      of_b: its start, and the factors of i and j.
      c: the sums.
      of_c: their start, and the factor of m.
      more: add to c.
    """
    a_start, a_row, a_outer, a_inner = of_a
    b_start, b_outer, b_inner = of_b
    c_start, c_row = of_c
    left, right, sums = address(a, a_start), address(b, b_start), address(c, c_start)
    vectors, add = columns // LANES, np.int64(more)
    outer, inner = steps
    _products(vectors, rows, left, right, sums, outer, inner, a_row, a_outer, a_inner, b_outer, b_inner, c_row, add)


@numba.njit
def columns_of_panel(maps: int) -> int:
    """Returns the columns of a panel, the number of maps that `product` sums at once; `LANES` must divide `maps`."""
    return LANES if maps % (2 * LANES) else 2 * LANES
