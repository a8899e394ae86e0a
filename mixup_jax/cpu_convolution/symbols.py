"""Functions that are compiled for themselves and called by their name, as those of a library are.

numba compiles what a function calls into it, and so again and again; a kernel would take 14 s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba import types

from mixup_jax.cpu_convolution.registers import LANES
from mixup_jax.metrics.compiling import kept_if_possible


def symbol(signature: Any) -> Callable[[Callable], Any]:
    """Returns a decorator that compiles a function, of whole numbers and addresses, to be called by compiled ones.

    What was compiled is kept beside Python's own compiled modules, or else in the user's cache.

    Args:
      signature: numba's.
    """

    def decorate(function: Callable) -> Any:
        name = f"mixup_jax.{function.__module__}.{function.__qualname__}"
        binding.add_symbol(name, kept(signature)(function).address)
        return types.ExternalFunction(name, signature)

    return decorate


def kept(signature: Any) -> Callable[[Callable], Any]:
    """Returns a decorator that compiles a function to be called as one of C is, by its `address`.

    Args:
      signature: numba's.
    """

    def decorate(function: Callable) -> Any:
        # It is kept under this name, and numba does not see when what it calls of other modules changes.
        function.__qualname__ += f"-{version()}"
        return kept_if_possible(numba.cfunc, signature)(function)

    return decorate


@cache
def version() -> str:
    """Returns a digest of what the kernels are compiled from, and of how many numbers a register holds."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    return f"{digest.hexdigest()[:12]}-{LANES}"
