"""The vector registers of this processor, for which the kernels are compiled."""

from __future__ import annotations

import platform
from typing import NamedTuple

from llvmlite import binding


class Registers(NamedTuple):
    """A processor's vector registers."""

    lanes: int
    """How many numbers each holds."""
    rows: tuple[int, ...]
    """Of how many rows of two registers a block of sums may be: as many as there are registers for, and fewer."""


def registers() -> Registers | None:
    """Returns those of this processor; None if it is one that the kernels are not for."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(16, (14, 8, 7, 4, 2, 1))
    if features.get("avx2") and features.get("fma"):
        return Registers(8, (6, 4, 3, 2, 1))
    if platform.machine() in ("aarch64", "arm64"):
        return Registers(4, (14, 8, 7, 4, 2, 1))
    return None


LANES, ROWS = registers() or Registers(1, (1,))
