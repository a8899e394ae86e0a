"""How fast a program could be at best: arithmetic of its counts and a chip's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixup_jax.ahead.topology import Chip

HOP = 1e-6
"""Seconds that a message takes to a neighbouring chip at least (Austin et al. 2025, chapter 2)."""


@dataclass(frozen=True)
class Roofline:
    """Bounds of one step on one device, in seconds (Williams et al., "Roofline", CACM 2009).

    Attributes:
      compute: FLOPs over the peak.
      memory: bytes accessed over the bandwidth.
    """

    compute: float
    memory: float

    @property
    def bound(self) -> float:
        """The larger of the two: no step takes less."""
        return max(self.compute, self.memory)

    @property
    def binds(self) -> str:
        """Which of the two it is."""
        return "memory" if self.memory > self.compute else "compute"


def roofline(flops: float, accessed: float, chip: Chip) -> Roofline:
    """Returns the bounds of a program that does `flops` and moves `accessed` bytes on each device."""
    return Roofline(flops / chip.flops, accessed / chip.bandwidth)


def utilisation(model_flops: float, seconds: float, chip: Chip) -> float:
    """Returns the share of a device's peak that the network's own FLOPs are, in a step of so many seconds."""
    return model_flops / (seconds * chip.flops)


def all_reduce_seconds(sizes: Sequence[float], layout: Sequence[int], chip: Chip) -> float:
    """Returns how long all-reduces take one after the other, by the model of a ring.

    An all-reduce of V bytes over n chips sends 2 V (n - 1) / n bytes from every chip (Patarasu and Yuan, 2009), over
    the two links of one ring through all chips, after a message has gone along every axis of the layout and back.
    On one chip it takes no time.

    Args:
      sizes: V of each.
      layout: chips along each axis of the torus, or mesh.
      chip: whose links they are.
    """
    chips = 1
    for side in layout:
        chips *= side
    if chips == 1:
        return 0.0
    latency = 2 * sum(side - 1 for side in layout) * HOP
    sent = sum(2 * size * (chips - 1) / chips for size in sizes)
    return len(sizes) * latency + sent / (2 * chip.link)
