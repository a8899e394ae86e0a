"""The record of compiling ahead: what a step needs, lower bounds of its time, and warnings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mixup_jax.ahead.program import Program, Unfit
from mixup_jax.ahead.topology import Chip, Target

SCHEMA = 1
HOP = 1e-6
"""The least time of a message to a neighbouring chip, seconds (Austin et al. 2025, chapter 2)."""
MOST_WORK = 1.3
"""The largest ratio of a program's FLOPs to those that its examples need; a higher one means wasted work."""


def program_record(program: Program | Unfit, target: Target, model_flops: float) -> dict[str, Any]:
    """Returns the facts of a compiled step, JSON-serialisable.

    `model_flops` are the FLOPs that the examples of one device need.
    """
    record = {**dataclasses.asdict(program), "model_flops": model_flops, "work": None, "fits": True, "bounds": None}
    if isinstance(program, Unfit):
        return record | {"fits": False}
    record["work"] = program.flops / model_flops
    record["memory"]["total"] = program.memory.total
    if target.chip is None:
        return record
    record["fits"] = program.memory.total <= target.chip.memory
    return record | {"bounds": _bounds(program, target.chip, target.layout, model_flops)}


def _bounds(program: Program, chip: Chip, layout: tuple[int, ...], model_flops: float) -> dict[str, Any]:
    """Returns bounds and estimates of the time of a step on a chip, in seconds, and the utilisation at each.

    The bounds are FLOPs over the peak and bytes accessed over the bandwidth (Williams et al., "Roofline", CACM 2009);
    no step is faster than the larger.  The utilisation is that of the peak by `model_flops`.
    """
    compute, memory = program.flops / chip.flops, program.accessed / chip.bandwidth
    bound = max(compute, memory)
    reduced = [group for group in program.collectives if group.kind == "all-reduce"]
    sizes = [group.bytes / group.count for group in reduced for _ in range(group.count)]
    estimated = None if program.cycles is None else program.cycles / chip.clock
    return {
        "compute_seconds": compute,
        "memory_seconds": memory,
        "bound_seconds": bound,
        "binds": "memory" if memory > compute else "compute",
        "utilisation_at_bound": model_flops / (bound * chip.flops),
        "all_reduce_seconds": all_reduce_seconds(sizes, layout, chip),
        "estimated_seconds": estimated,
        "utilisation_estimated": None if estimated is None else model_flops / (estimated * chip.flops),
    }


def wasteful(record: Mapping[str, Any]) -> bool:
    """Returns whether a step's program computes more than MOST_WORK times the FLOPs that its examples need."""
    return (record.get("work") or 0.0) > MOST_WORK


def warnings(record: Mapping[str, Any], name: str) -> list[str]:
    """Returns warnings about a compiled step, one line each."""
    if record["fits"] is False:
        needed = record["memory"]["total"] if "memory" in record else record["needed"]
        size = "" if needed is None else f": it needs {needed / 1e9:.3g} GB"
        return [f"{name}: does not fit a device's memory{size}; take a smaller batch, or more devices"]
    lines = []
    if wasteful(record):
        lines.append(
            f"{name}: {record['flops']:.3g} FLOPs are {record['work']:.2f} times the network's own; more than "
            f"{MOST_WORK} mean that devices compute what others compute too"
        )
    for group in record.get("collectives", ()):
        if group["kind"] != "all-reduce":
            lines.append(
                f"{name}: {group['count']} {group['kind']} found, of {group['bytes'] / 1e6:.3g} MB; data-parallel "
                "training needs all-reduce alone"
            )
        if group["in_loop"]:
            lines.append(f"{name}: {group['in_loop']} {group['kind']} inside a loop: every round waits for all devices")
    if record.get("kernels"):
        lines.append(
            f"{name}: {record['kernels']} calls of mixup_jax.cpu_convolution, whose FLOPs and bytes are not counted"
        )
    lines += [f"{name}: exchanges {one} with the host in every step" for one in record.get("transfers", ())]
    return lines


def all_reduce_seconds(sizes: Sequence[float], layout: Sequence[int], chip: Chip) -> float:
    """Returns the time of all-reduces one after another, in seconds, by the model of a ring.

    In an all-reduce of V bytes over n chips, every chip sends 2 V (n - 1) / n bytes (Patarasu and Yuan, 2009) over
    the two links of one ring through all chips.  The model adds the latency of a message along every axis of the layout
    and back.  On one chip the time is 0.
    """
    chips = math.prod(layout)
    if chips == 1:
        return 0.0
    latency = 2 * sum(side - 1 for side in layout) * HOP
    sent = sum(2 * size * (chips - 1) / chips for size in sizes)
    return len(sizes) * latency + sent / (2 * chip.link)
