"""How loops are compiled by numba, and where the compiled code is cached.

The module `compiled` compiles its loops when it is imported.  Functions that need them import it when they are called,
so that other programs do not load numba.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
from numba import types


def given(scalar: Any, dimensions: int) -> types.Array:
    """Returns the type of a contiguous array that a loop reads; it may be read-only, such as a memory-mapped file."""
    return types.Array(scalar, dimensions, "C", readonly=True)


def filled(scalar: Any, dimensions: int) -> types.Array:
    """Returns the type of a contiguous array that a loop writes."""
    return types.Array(scalar, dimensions, "C")


def compiled(signatures: Sequence[Any], fastmath: frozenset[str] = frozenset()) -> Callable[[Callable], Callable]:
    """Returns a decorator that compiles a function for arguments of exactly these types, to run without the GIL.

    Compiled code is cached beside Python's own compiled modules, or else in the user's cache.  numba numbers its files
    in the order of compilation.  So all types are compiled at once and in this order, and processes that compile at
    the same time write the same files.

    `signatures` are numba's; `fastmath` names the flags of LLVM under which the loop stays right.
    """
    return kept_if_possible(numba.njit, list(signatures), nogil=True, fastmath=set(fastmath))


def kept_if_possible(compiler: Callable[..., Any], signature: Any, **options: Any) -> Callable[[Callable], Any]:
    """Returns a decorator that compiles a function, and caches the compiled code if it can be written.

    `compiler` is numba's `njit` or `cfunc`; signature and options are passed to it.
    """

    def decorate(function: Callable) -> Any:
        try:
            return compiler(signature, cache=True, **options)(function)
        except Exception:  # no writable folder, a full disk, a damaged file: compile without a cache
            return compiler(signature, **options)(function)

    return decorate
