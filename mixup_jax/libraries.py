"""Settings of libraries: memory allocation of the C library, XLA's compiler on a CPU, importing TensorFlow."""

import ctypes
import os
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

Options = dict[str, int | str]

MALLOC = {"M_ARENA_MAX": (-8, 1), "M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""Options of glibc's mallopt by their number in malloc.h, and their values: all threads share one arena, no block is
mapped on its own however large it is, and only free memory beyond 2 GiB is returned to the kernel."""

_FAST_TO_COMPILE: Options = {"xla_backend_optimization_level": 0}

# By default XLA gives reductions, products and convolutions to its library YNNPACK.  The first two get faster by it,
# convolutions slower (docs/benchmarks.md has the times), so only the first two are named here.
_FAST_TO_RUN: Options = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for this process's next allocations; returns whether it does.

    On a CPU, XLA allocates a program's memory at every run.  By default glibc gets large blocks fresh from the kernel,
    which clears them page by page: docs/benchmarks.md says what that costs a training step.  The price is that
    the process stays as large as it ever was.  Call this before any thread is started.

    Nothing is done where jax has accelerators, whose programs use other memory, or where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or not _only_cpus():
        return False
    return all(mallopt(option, value) for option, value in MALLOC.values())


def _only_cpus() -> bool:
    """Returns whether jax will find nothing but CPUs, as far as can be told without loading it."""
    wanted = os.environ.get("JAX_PLATFORMS")
    if wanted:
        return wanted == "cpu"
    return not entry_points(group="jax_plugins") and find_spec("libtpu") is None


def fast_to_compile(platform: str) -> Options | None:
    """Returns compiler options for a program that runs once; on a CPU, optimising it takes five times as long."""
    return _FAST_TO_COMPILE if platform == "cpu" else None


def fast_to_run(platform: str) -> Options | None:
    """Returns compiler options for a program that runs often on a CPU; None for other devices or an older jax."""
    return _FAST_TO_RUN if platform == "cpu" and _known() else None


@cache
def _known() -> bool:
    """Returns whether jax accepts `_FAST_TO_RUN`; the option is experimental, so a later jax may have dropped it."""
    import jax

    try:
        jax.jit(lambda: 0, compiler_options=_FAST_TO_RUN).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def load_tensorflow() -> Any:
    """Returns the module of TensorFlow, loaded (seconds) without start-up notices and its claim on accelerators."""
    # TensorFlow's C++ side reads these as it is loaded; the second silences a notice that ignores the first.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    # TensorFlow would reserve all memory of the accelerators that jax is to use.
    tf.config.set_visible_devices([], "GPU")
    return tf
