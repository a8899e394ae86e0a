"""What XLA gives to a kernel that it calls by its foreign function interface.

The structures are those of `xla/ffi/api/c_api.h` (in jaxlib, `jax.ffi.include_dir()`); all that is read are words of
64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Which word of a structure they are: of XLA_FFI_CallFrame,
_EXTENSION, API, CONTEXT, _ARGUMENTS, _COUNT, _RESULTS, _ATTRIBUTES = 1, 2, 3, 9, 12, 14, 20
# of XLA_FFI_Buffer and XLA_FFI_Scalar,
_NUMBERS, _RANK, _SIDES, _VALUE = 3, 4, 5, 1
# of XLA_FFI_Extension_Base, XLA_FFI_Metadata_Extension, XLA_FFI_Metadata and XLA_FFI_Api.
_TYPE, _METADATA, _WANTED_VERSION, _VERSION = 1, 3, 3, 4
_IS_METADATA = 1
_LOW_HALF = 0xFFFFFFFF

TASK = types.void(types.int64, types.int64, types.int64)
"""The type of a function that does a part of a kernel's work: it takes the address of the call's frame, the part's
number from 0, and how many parts there are."""

ACROSS, DOWN, KIND, LEFT, SIZE_ACROSS, SIZE_DOWN, TOP = range(7)
"""Attributes of a call, in the order of their names: strides, which kernel it is, zeros before an image, and the
sides of the filters."""


def _pointer_to(numbers: Any) -> Callable[[int], Any]:
    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
            return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

        return types.CPointer(numbers)(types.int64), generate

    return pointer


words, _floats = _pointer_to(types.int64), _pointer_to(types.float32)


@numba.njit
def described(frame: int) -> bool:
    """Returns whether XLA only asks for the version of its interface that a kernel is made for, and answers that.

    The lower half of a version is the major number, ours is 0; the minor number only counts what was added at the ends
    of structures, so that the caller's is right.
    """
    extension = words(frame)[_EXTENSION]
    if extension == 0 or words(extension)[_TYPE] & _LOW_HALF != _IS_METADATA:
        return False
    metadata = words(extension)[_METADATA]
    words(metadata)[_WANTED_VERSION] = words(words(frame)[API])[_VERSION] & ~_LOW_HALF
    return True


@numba.njit
def attribute(frame: int, place: int) -> int:
    """Returns a whole number that the call was given by name; they stand in the order of their names."""
    scalar = words(words(frame)[_ATTRIBUTES])[place]
    return words(words(scalar)[_VALUE])[0]


@numba.njit
def strides_and_margins(frame: int) -> tuple[int, int, int, int]:
    """Returns the strides across and down, and how many zeros are left of an image and above it."""
    return attribute(frame, ACROSS), attribute(frame, DOWN), attribute(frame, LEFT), attribute(frame, TOP)


@numba.njit
def argument(frame: int, place: int) -> int:
    """Returns the buffer of an argument, for `side` and `numbers`."""
    return words(words(frame)[_ARGUMENTS])[place]


@numba.njit
def result(frame: int, place: int) -> int:
    """Returns the buffer of a result, which is to be written."""
    return words(words(frame)[_RESULTS])[place]


@numba.njit
def scratch_space(frame: int) -> int:
    """Returns the buffer of the last result, `[parts, ..]`."""
    return result(frame, words(frame)[_COUNT] - 1)


@numba.njit
def side(buffer: int, axis: int) -> int:
    """Returns how long an axis of a buffer is."""
    return words(words(buffer)[_SIDES])[axis]


@numba.njit
def image_shape(buffer: int) -> tuple[int, int, int]:
    """Returns the height, the width and the channels of a buffer of images."""
    return side(buffer, 1), side(buffer, 2), side(buffer, 3)


@numba.njit
def numbers(buffer: int) -> Any:
    """Returns a buffer's numbers, float32, as an array of one dimension."""
    size = 1
    for axis in range(words(buffer)[_RANK]):
        size *= side(buffer, axis)
    return numba.carray(_floats(words(buffer)[_NUMBERS]), (size,))


@numba.njit
def space_of(buffer: int, part: int) -> Any:
    """Returns the scratch space of a part, given that of all, `[parts, ..]`."""
    space = numbers(buffer)
    size = space.size // side(buffer, 0)
    return space[part * size : (part + 1) * size]


@numba.njit
def share(count: int, part: int, parts: int) -> tuple[int, int]:
    """Returns the first of so many things that belong to a part, and the first that does not any more."""
    return count * part // parts, count * (part + 1) // parts
