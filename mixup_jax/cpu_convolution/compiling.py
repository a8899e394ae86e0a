"""The vector registers of this processor, and compiling and caching the kernels' functions."""

import hashlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
from llvmlite import binding
from numba import types

from mixup_jax.metrics.compiling import kept_if_possible


class Registers(NamedTuple):
    """A processor's vector registers.

    Attributes:
      lanes: how many float32 numbers each holds.
      rows: the allowed heights of a block of sums, in rows of two registers; the largest uses all registers.
    """

    lanes: int
    rows: tuple[int, ...]


def registers() -> Registers | None:
    """Returns the registers of this processor; None if the kernels do not support it."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(16, (14, 8, 7, 4, 2, 1))
    if features.get("avx2") and features.get("fma"):
        return Registers(8, (6, 4, 3, 2, 1))
    if platform.machine() in ("aarch64", "arm64"):
        return Registers(4, (14, 8, 7, 4, 2, 1))
    return None


LANES, ROWS = registers() or Registers(1, (1,))


def symbol(signature: Any) -> Callable[[Callable], Any]:
    """Returns a decorator that compiles a function once; compiled functions then call it by its name.

    Otherwise numba would compile it into each of its callers, and compiling a kernel would take 14 s.  The function
    takes whole numbers and addresses.
    """

    def decorate(function: Callable) -> Any:
        name = f"mixup_jax.{function.__module__}.{function.__qualname__}"
        binding.add_symbol(name, kept(signature)(function).address)
        return types.ExternalFunction(name, signature)

    return decorate


def kept(signature: Any) -> Callable[[Callable], Any]:
    """Returns a decorator that compiles a function with the calling convention of C; the result has an `address`.

    The machine code is cached beside Python's own compiled modules, or else in the user's cache.
    """

    def decorate(function: Callable) -> Any:
        # numba caches the code under this name, and does not notice changes in functions of other modules.
        function.__qualname__ += f"-{version()}"
        return kept_if_possible(numba.cfunc, signature)(function)

    return decorate


@cache
def version() -> str:
    """Returns a digest of the kernels' source code and of the size of a register."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    return f"{digest.hexdigest()[:12]}-{LANES}"
