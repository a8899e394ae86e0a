"""Devices to compile for, by the name of a topology, and the peak figures of chips."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from mixup_jax.devices.mesh import device_mesh
from mixup_jax.errors import InputError

EXPECTED = (
    "expected cpu:N or cuda:N with N devices, or a TPU slice that libtpu knows, such as v5e:4x4, v5e:8x16, "
    "v6e:4x4, v4:2x2x4 or v5p:4x4x4"
)
LIBTPU = {
    # Otherwise libtpu would look for a TPU on this machine, lock it, and report what it does not find.
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
"""Environment variables for libtpu, unless the user has set them; none changes what is compiled."""
HOSTED = ("cpu", "cuda")
LARGEST = 1024


@dataclass(frozen=True)
class Chip:
    """The peak figures of one chip.

    Attributes:
      name: as in the names of topologies.
      flops: bfloat16 multiply-adds per second, counted as two.
      bandwidth: of its memory, bytes per second.
      memory: bytes.
      link: bandwidth of one link to a neighbouring chip, bytes per second each way.
      clock: cycles per second; the peak divided by the FLOPs per cycle of its matrix units.
      cores: of a chip; a device is a whole chip or, where jax treats each core as a device, one core.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    link: float
    clock: float
    cores: int = 1

    def per_device(self, cores: int) -> Chip:
        """Returns the figures of a device with `cores` of the chip's cores; the links stay those of the chip."""
        share = cores / self.cores
        return Chip(
            self.name, self.flops * share, self.bandwidth * share, self.memory * share, self.link, self.clock, cores
        )


GIB = 2.0**30

# Peak, bandwidth and memory: Google Cloud's pages on each version. Links: "How to Scale Your Model" (Austin et al.,
# 2025), chapter 2. The clock follows from the peak: a v5e, for example, has four units of 128 x 128 multiply-adds.
CHIPS = {
    "TPU v2": Chip("v2", 45e12, 700e9, 16 * GIB, 62e9, 0.70e9, cores=2),
    "TPU v3": Chip("v3", 123e12, 900e9, 32 * GIB, 82e9, 0.94e9, cores=2),
    "TPU v4": Chip("v4", 275e12, 1228e9, 32 * GIB, 45e9, 1.05e9, cores=2),
    "TPU v5 lite": Chip("v5e", 197e12, 819e9, 16 * GIB, 45e9, 1.50e9),
    "TPU v5": Chip("v5p", 459e12, 2765e9, 95 * GIB, 90e9, 1.75e9, cores=2),
    "TPU v6 lite": Chip("v6e", 918e12, 1640e9, 32 * GIB, 90e9, 1.75e9),
}
"""The chips by the device kind of jax."""


@dataclass(frozen=True)
class Target:
    """Devices to compile for, on the platform "cpu", "cuda" or "tpu".

    For cuda, virtual CPU devices are in the mesh.  `layout` counts chips along each axis; `chip` has the figures of one
    device, None if they are unknown.
    """

    name: str
    platform: str
    mesh: Mesh
    layout: tuple[int, ...]
    chip: Chip | None

    @property
    def chips(self) -> int:
        """The number of chips; on some TPUs a chip is two devices."""
        return math.prod(self.layout)


def set_up(name: str) -> None:
    """Configures jax before its first use of a device: no accelerator, and the topology's number of virtual devices."""
    jax.config.update("jax_platforms", "cpu")
    kind, _, size = name.partition(":")
    if kind in HOSTED:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={_count(name, size)}"
    for variable, value in LIBTPU.items():
        os.environ.setdefault(variable, value)


def find_target(name: str) -> Target:
    """Returns the devices of a topology: `cpu:N`, `cuda:N`, or a TPU slice as libtpu names it, such as `v5e:4x4`.

    Raises InputError if there is no such topology, or libtpu is not installed.
    """
    kind, _, size = name.partition(":")
    if kind not in HOSTED:
        return _tpu(name, kind, size)
    count = _count(name, size)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise InputError(
            f"topology is {name!r}, but jax has started with {len(devices)} devices; expected a new process"
        )
    return Target(name, kind, device_mesh(devices[:count]), (count,), None)


def _count(name: str, size: str) -> int:
    if not size.isascii() or not size.isdecimal() or not 1 <= int(size) <= LARGEST:
        raise InputError(f"topology is {name!r}; expected a number of devices from 1 to {LARGEST}, such as cpu:8")
    return int(size)


def _tpu(name: str, kind: str, size: str) -> Target:
    if not re.fullmatch(r"\d+(x\d+){0,2}", size):
        raise InputError(f"topology is {name!r}; {EXPECTED}")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"topology is {name!r}, and libtpu, which compiles for it, is not installed; "
            "expected it installed: pip install -e '.[tpu]'"
        )
    layout = tuple(map(int, size.split("x")))
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name, **_options(kind, layout)).devices
    except Exception as error:  # jax has no own type for libtpu's errors
        reason = " ".join(str(error).split()).removeprefix("INVALID_ARGUMENT: ")
        raise InputError(f"topology is {name!r}, which libtpu refuses ({reason}); {EXPECTED}") from error
    first: Any = devices[0]
    chip = CHIPS.get(first.device_kind)
    per_device = chip and chip.per_device(first.num_cores)
    return Target(name, "tpu", device_mesh(devices), layout, per_device)


def _options(kind: str, layout: tuple[int, ...]) -> dict[str, Any]:
    """Returns the options, besides the name, that make libtpu's description of a slice match the real machines."""
    options: dict[str, Any] = {}
    if kind == "v4":
        options["chip_config_name"] = "megacore"  # as on Cloud TPU: the two cores of a chip are one device
    if min(layout[:2]) < 2:
        options["chips_per_host_bounds"] = [*(min(side, 2) for side in (*layout, 1, 1)[:2]), 1]
    return options
