"""With which of XLA's options programs for a CPU are compiled."""

from __future__ import annotations

from functools import cache

import jax

Options = dict[str, int | str]

_FAST_TO_COMPILE: Options = {"xla_backend_optimization_level": 0}

# XLA takes reductions and products to its library YNNPACK by default, where they gain, and convolutions, which lose:
# docs/benchmarks.md has by how much.  This names the first two.
_FAST_TO_RUN: Options = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}


def fast_to_compile(platform: str) -> Options | None:
    """Returns options for a program that runs once: on a CPU, compiling it well takes five times as long.

    Args:
      platform: of the devices: "cpu", "gpu" or "tpu"; None is returned for all but "cpu".
    """
    return _FAST_TO_COMPILE if platform == "cpu" else None


def fast_to_run(platform: str) -> Options | None:
    """Returns options for a program that runs often; None where this jax does not know them.

    Args:
      platform: of the devices: "cpu", "gpu" or "tpu"; None is returned for all but "cpu".
    """
    return _FAST_TO_RUN if platform == "cpu" and _known() else None


@cache
def _known() -> bool:
    # An experimental option: of a jax that has dropped it we take the defaults.
    try:
        jax.jit(lambda: 0, compiler_options=_FAST_TO_RUN).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
