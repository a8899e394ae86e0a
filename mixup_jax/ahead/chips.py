"""Published figures of TPU chips, for rooflines."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """What one chip can do at most.

    Attributes:
      name: as topologies are named.
      flops: bfloat16 multiply-adds per second, counted as two.
      bandwidth: of its memory, bytes per second.
      memory: bytes.
      link: of one link to a neighbouring chip, bytes per second each way.
      clock: cycles per second: what the peak is on the matrix units that it has.
      cores: of a chip; a device is all of them or, where jax makes a device of each core, one.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    clock: float
    cores: int = 1

    def per_device(self, cores: int) -> Chip:
        """Returns the figures of a device of so many of the chip's cores; links are the chip's."""
        share = cores / self.cores
        return Chip(
            self.name, self.flops * share, self.bandwidth * share, self.memory * share, self.link, self.clock, cores
        )


GIB = 2.0**30

# Peak, bandwidth and memory: Google Cloud's pages of each version. Links: "How to Scale Your Model" (Austin et al.,
# 2025), chapter 2. The clock follows from the peak: v5e, say, has four units of 128 x 128 multiply-adds a cycle.
CHIPS = {
    "TPU v2": Chip("v2", 45e12, 700e9, 16 * GIB, 62e9, 0.70e9, cores=2),
    "TPU v3": Chip("v3", 123e12, 900e9, 32 * GIB, 82e9, 0.94e9, cores=2),
    "TPU v4": Chip("v4", 275e12, 1228e9, 32 * GIB, 45e9, 1.05e9, cores=2),
    "TPU v5 lite": Chip("v5e", 197e12, 819e9, 16 * GIB, 45e9, 1.50e9),
    "TPU v5": Chip("v5p", 459e12, 2765e9, 95 * GIB, 90e9, 1.75e9, cores=2),
    "TPU v6 lite": Chip("v6e", 918e12, 1640e9, 32 * GIB, 90e9, 1.75e9),
}
"""By what jax calls the device."""
