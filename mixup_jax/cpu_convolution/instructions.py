"""What the kernels do with memory, as LLVM is told it: how far things are apart is in float32 numbers, of 4 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixup_jax.cpu_convolution.registers import LANES

INDEX = ir.IntType(64)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
ZEROS = ir.Constant(VECTOR, [0.0] * LANES)


def number(value: int) -> ir.Constant:
    """Returns a whole number of 64 bits."""
    return ir.Constant(INDEX, value)


def beyond(builder: ir.IRBuilder, base: Any, *terms: tuple[Any, Any]) -> Any:
    """Returns the address that is beyond another by a sum of products."""
    return builder.gep(base, [reduce(builder.add, (builder.mul(*term) for term in terms))])


def load(builder: ir.IRBuilder, address: Any) -> Any:
    """Returns the vector at an address."""
    return builder.load(builder.bitcast(address, VECTOR.as_pointer()), align=4)


def store(builder: ir.IRBuilder, value: Any, address: Any) -> None:
    """Writes a vector to an address."""
    builder.store(value, builder.bitcast(address, VECTOR.as_pointer()), align=4)


def data(context: Any, builder: ir.IRBuilder, signature: Any, given: Sequence[Any], place: int) -> Any:
    """Returns where the numbers of an array are that is an argument."""
    return context.make_array(signature.args[place])(context, builder, given[place]).data


@intrinsic
def address(typing: Any, array: Any, place: Any) -> Any:
    """Returns where in memory a place of an array is."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        base = data(context, builder, signature, given, 0)
        return builder.ptrtoint(beyond(builder, base, (given[1], number(1))), INDEX)

    return types.int64(array, types.int64), generate


@intrinsic
def clear(typing: Any, count: Any, target: Any) -> Any:
    """Writes that many zeros to an array's beginning."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        base = data(context, builder, signature, given, 1)
        cgutils.memset(builder, base, builder.mul(given[0], number(4)), 0)
        return context.get_dummy_value()

    return types.void(types.int64, target), generate


@intrinsic
def copy(typing: Any, count: Any, source: Any, start: Any, target: Any, place: Any) -> Any:
    """Copies that many numbers of an array, from a place on, to a place of another array."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
        source, target = (
            beyond(builder, data(context, builder, signature, given, at), (given[at + 1], number(1))) for at in (1, 3)
        )
        cgutils.raw_memcpy(builder, target, source, given[0], 4)
        return context.get_dummy_value()

    return types.void(types.int64, source, types.int64, target, types.int64), generate
