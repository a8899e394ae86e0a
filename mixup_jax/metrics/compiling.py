"""How loops are compiled by numba, and where the compiled code is cached.

`compiled` compiles when it is imported.  So the functions that need it import it themselves, and a program that calls
none of them does not load numba.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
from numba import types


def given(scalar: Any, dimensions: int) -> types.Array:
    """Returns the type of an array that a loop reads: contiguous, maybe memory-mapped or otherwise not writable."""
    return types.Array(scalar, dimensions, "C", readonly=True)


def filled(scalar: Any, dimensions: int) -> types.Array:
    """Returns the type of a contiguous array that a loop writes."""
    return types.Array(scalar, dimensions, "C")


def compiled(signatures: Sequence[Any], fastmath: frozenset[str] = frozenset()) -> Callable[[Callable], Callable]:
    """Returns a decorator that compiles a function for arguments of exactly these types, to run without the GIL.

    What was compiled is kept beside Python's own compiled modules, or else in the user's cache.
    All types are compiled at once and in this order, since numba numbers its files in the order of compilation: so
    processes that compile at the same time write the same files.

    Args:
      signatures: numba's.
      fastmath: of LLVM's flags those that the loop stays right under.
    """
    return kept_if_possible(numba.njit, list(signatures), nogil=True, fastmath=set(fastmath))


def kept_if_possible(compiler: Callable[..., Any], signature: Any, **options: Any) -> Callable[[Callable], Any]:
    """Returns a decorator that compiles a function, and keeps what was compiled where that can be.

    Args:
      compiler: numba's, `njit` or `cfunc`.
      signature: for it.
      **options: for it.
    """

    def decorate(function: Callable) -> Any:
        try:
            return compiler(signature, cache=True, **options)(function)
        except Exception:  # nowhere to write, a full disk, a damaged file: whatever it is, no file is needed
            return compiler(signature, **options)(function)

    return decorate
