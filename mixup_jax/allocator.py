"""The C library's memory: on a CPU, what a step frees is kept for the next step."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

OPTIONS = {"M_ARENA_MAX": (-8, 1), "M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""Of glibc's malloc.h, and what they are set to: all threads share the memory; none of it comes and goes by itself,
however large; and only what is free beyond 2 GiB is given back."""


def keep_freed_memory() -> bool:
    """Has glibc keep freed memory for what this process allocates next; returns whether it does.

    XLA allocates a program's memory on a CPU whenever it runs it, and glibc takes large blocks fresh from the kernel,
    which clears them page by page: docs/benchmarks.md has how much of a step that is.  The price is that the process
    stays as large as it ever was.  To be called before there are threads.

    Nothing is done where jax has accelerators, whose programs do not run in this memory, nor without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or not _only_cpus():
        return False
    return all(mallopt(option, value) for option, value in OPTIONS.values())


def _only_cpus() -> bool:
    """Returns whether jax will find nothing but CPUs, as far as that can be told without loading it."""
    wanted = os.environ.get("JAX_PLATFORMS")
    if wanted:
        return wanted == "cpu"
    return not entry_points(group="jax_plugins") and find_spec("libtpu") is None
