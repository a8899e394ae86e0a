"""Reads the buffers, shapes and attributes that XLA passes to a kernel.

Every value is a word of 64 bits at the place given in `xla_layout.WORDS`.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mixup_jax.cpu_convolution.xla_layout import WORDS

_FRAME, _BUFFER, _API = WORDS["XLA_FFI_CallFrame"], WORDS["XLA_FFI_Buffer"], WORDS["XLA_FFI_Api"]
_EXTENSION, API, CONTEXT = _FRAME["extension_start"], _FRAME["api"], _FRAME["ctx"]
_ARGUMENTS, _COUNT, _RESULTS, _ATTRIBUTES = (
    _FRAME[name] for name in ("args.args", "rets.size", "rets.rets", "attrs.attrs")
)
_NUMBERS, _RANK, _SIDES = _BUFFER["data"], _BUFFER["rank"], _BUFFER["dims"]
_VALUE = WORDS["XLA_FFI_Scalar"]["value"]
_TYPE = WORDS["XLA_FFI_Extension_Base"]["type"]
_METADATA = WORDS["XLA_FFI_Metadata_Extension"]["metadata"]
_ANSWER = WORDS["XLA_FFI_Metadata"]["api_version.major_version"]
_VERSION = _API["api_version.major_version"]
DESTROY, SCHEDULE, THREADS = (
    _API[f"XLA_FFI_{name}"] for name in ("Error_Destroy", "ThreadPool_Schedule", "ThreadPool_NumThreads")
)
_IS_METADATA = 1
_LOW_HALF = 0xFFFFFFFF

TASK = types.void(types.int64, types.int64, types.int64)
"""The type of a function that does one part of a kernel's work: it takes the address of the call's frame, the number of
the part (from 0) and the number of parts."""

ACROSS, DOWN, KIND, LEFT, SIZE_ACROSS, SIZE_DOWN, TOP = range(7)
"""Attributes of a call, in the alphabetical order in which XLA passes them: strides, the kind of kernel, zeros before
an image, and the sides of the filters."""


def _pointer_to(numbers: Any) -> Callable[[int], Any]:
    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> Any:
            return builder.inttoptr(given[0], context.get_value_type(signature.return_type))

        return types.CPointer(numbers)(types.int64), generate

    return pointer


words, _floats = _pointer_to(types.int64), _pointer_to(types.float32)


@numba.njit
def asks_for_version(frame: int) -> bool:
    """Returns whether XLA only asks for the version of the interface that the kernel uses, and answers if so.

    The lower half of a version is the major number, and ours is 0.  A higher minor number means that fields were added
    at the end of structures, so the caller's minor number is a right answer.
    """
    extension = words(frame)[_EXTENSION]
    if extension == 0 or words(extension)[_TYPE] & _LOW_HALF != _IS_METADATA:
        return False
    metadata = words(extension)[_METADATA]
    words(metadata)[_ANSWER] = words(words(frame)[API])[_VERSION] & ~_LOW_HALF
    return True


@numba.njit
def attribute(frame: int, place: int) -> int:
    """Returns an integer attribute of the call."""
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
    """Returns the buffer of a result, which the kernel writes."""
    return words(words(frame)[_RESULTS])[place]


@numba.njit
def scratch_space(frame: int) -> int:
    """Returns the buffer of the last result, `[parts, ..]`."""
    return result(frame, words(frame)[_COUNT] - 1)


@numba.njit
def side(buffer: int, axis: int) -> int:
    """Returns the length of a buffer's axis."""
    return words(words(buffer)[_SIDES])[axis]


@numba.njit
def image_shape(buffer: int) -> tuple[int, int, int]:
    """Returns the height, the width and the channels of a buffer of images."""
    return side(buffer, 1), side(buffer, 2), side(buffer, 3)


@numba.njit
def numbers(buffer: int) -> Any:
    """Returns a buffer's float32 numbers as an array of one dimension."""
    size = 1
    for axis in range(words(buffer)[_RANK]):
        size *= side(buffer, axis)
    return numba.carray(_floats(words(buffer)[_NUMBERS]), (size,))


@numba.njit
def space_of(buffer: int, part: int) -> Any:
    """Returns a part's share of the scratch space `[parts, ..]`."""
    space = numbers(buffer)
    size = space.size // side(buffer, 0)
    return space[part * size : (part + 1) * size]


@numba.njit
def share(count: int, part: int, parts: int) -> tuple[int, int]:
    """Returns the first index of a part, and one past its last, when `count` things are divided into `parts`."""
    return count * part // parts, count * (part + 1) // parts
