"""The record of what was compiled ahead, as it is written, and what it gives cause to warn of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mixup_jax.ahead.program import Program, Unfit
from mixup_jax.ahead.roofline import all_reduce_seconds, roofline, utilisation
from mixup_jax.ahead.topology import Chip, Target

SCHEMA = 1


def program_record(program: Program | Unfit, target: Target, model_flops: float) -> dict[str, Any]:
    """Returns what is known of a compiled step, as JSON can hold it.

    Args:
      program: as compiled.
      target: that it was compiled for.
      model_flops: that one device's examples ask for, whatever the program does.
    """
    record = {**dataclasses.asdict(program), "model_flops": model_flops, "fits": True, "bounds": None}
    if isinstance(program, Unfit):
        return record | {"fits": False}
    record["memory"]["total"] = program.memory.total
    if target.chip is None:
        return record
    record["fits"] = program.memory.total <= target.chip.memory
    return record | {"bounds": _bounds(program, target.chip, target.layout, model_flops)}


def _bounds(program: Program, chip: Chip, layout: tuple[int, ...], model_flops: float) -> dict[str, Any]:
    """Returns the times of a step on a chip, in seconds, and what they make of its peak."""
    bounds = roofline(program.flops, program.accessed, chip)
    reduced = [group for group in program.collectives if group.kind == "all-reduce"]
    sizes = [group.bytes / group.count for group in reduced for _ in range(group.count)]
    found: dict[str, Any] = {
        "compute_seconds": bounds.compute,
        "memory_seconds": bounds.memory,
        "bound_seconds": bounds.bound,
        "binds": bounds.binds,
        "utilisation_at_bound": utilisation(model_flops, bounds.bound, chip),
        "all_reduce_seconds": all_reduce_seconds(sizes, layout, chip),
        "estimated_seconds": None,
        "utilisation_estimated": None,
    }
    if program.cycles is not None:
        seconds = program.cycles / chip.clock
        found |= {
            "estimated_seconds": seconds,
            "utilisation_estimated": utilisation(model_flops, seconds, chip),
        }
    return found


def warnings(record: Mapping[str, Any], name: str) -> list[str]:
    """Returns what is wrong with a compiled step, one line each.

    Args:
      record: of a step, as `program_record` returns it.
      name: of the step, which opens the lines.
    """
    if record["fits"] is False:
        needed = record["memory"]["total"] if "memory" in record else record["needed"]
        size = "" if needed is None else f": it needs {needed / 1e9:.3g} GB"
        return [f"{name}: does not fit a device's memory{size}; take a smaller batch, or more devices"]
    lines = []
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
