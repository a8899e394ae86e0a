"""A step exported for another platform than those that can be compiled for here."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import jax

from mixup_jax.ahead.lowering import Call

_COLLECTIVE = re.compile(r"stablehlo\.(all_reduce|all_gather|all_to_all|reduce_scatter|collective_\w+)\b")


def export_record(call: Call, platform: str, devices: int) -> dict[str, Any]:
    """Returns what is known of a step before a compiler of that platform has it.

    `arguments` are bytes on one device; `flops` is one device's share of what the program asks for, before any
    optimisation; `collectives` counts those that the program has by itself: under jit none, since the platform's
    compiler makes them when it divides the program among the devices; whether it fits, it alone knows.

    Args:
      call: of a jitted function.
      platform: such as "cuda".
      devices: that share it.
    """
    exported = jax.export.export(call.function, platforms=[platform])(*call.arguments)
    cost: Any = call.function.trace(*call.arguments).lower(lowering_platforms=(platform,)).cost_analysis()
    return {
        "examples": call.examples,
        "fits": None,
        "platforms": list(exported.platforms),
        "devices": exported.nr_devices,
        "stablehlo_bytes": len(exported.mlir_module_serialized),
        "arguments": sum(_bytes_on_device(leaf) for leaf in jax.tree.leaves(call.arguments)),
        "flops": float(cost["flops"]) / devices,
        "collectives": dict(Counter(_COLLECTIVE.findall(exported.mlir_module()))),
    }


def _bytes_on_device(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
    return math.prod(shape) * leaf.dtype.itemsize
