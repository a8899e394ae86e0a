"""The record of compiling ahead: what a step needs, lower bounds of its time, and warnings; and the record as text."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixup_jax.ahead.program import Program, Unfit
from mixup_jax.ahead.topology import Chip, Target

SCHEMA = 1
HOP = 1e-6
"""The least time of a message to a neighbouring chip, seconds (Austin et al. 2025, chapter 2)."""
MOST_WORK = 1.3
"""The largest ratio of a program's FLOPs to those that its examples need; a higher one means wasted work."""

Record = Mapping[str, Any]
ASSUMED = {
    "examples": "training examples on every device (--examples=N)",
    "words": "words of a vocabulary (--vocabulary=N)",
}
UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0))


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


def wasteful(record: Record) -> bool:
    """Returns whether a step's program computes more than MOST_WORK times the FLOPs that its examples need."""
    return (record.get("work") or 0.0) > MOST_WORK


def warnings(record: Record, name: str) -> list[str]:
    """Returns warnings about a compiled step, one line each."""
    if record["fits"] is False:
        needed = record["memory"]["total"] if "memory" in record else record["needed"]
        size = "" if needed is None else f": it needs {needed / 1e9:.3g} GB"
        return [f"{name}: does not fit a device's memory{size}; take a smaller batch, or more devices"]
    lines = []
    if wasteful(record):
        lines.append(
            f"{name}: {record['flops']:.3g} FLOPs are {record['work']:.2f} times the network's own; more than "
            f"{MOST_WORK} mean that devices compute what others compute too, unless method erm has as many"
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


def render(record: Record) -> str:
    """Returns a record of `compile_ahead` as readable lines."""
    topology, config = record["topology"], record["config"]
    device = topology["device"]
    figures = f"devices: {topology['devices']}" if device is None else _device(topology, device)
    model = config["model"]
    head = [
        f"{config['experiment'] or config['data']['name']}: {model['name']} width {model['width']}, {model['dtype']}, "
        f"batch {config['batch_size']}, by {config['parallel']} on {topology['name']}",
        figures,
    ]
    head += [f"assumed: {number:,} {ASSUMED[name]}" for name, number in record["assumed"].items()]
    body = [line for name, step in record["steps"].items() for line in ("", *_step(name, step, device))]
    tail = ["", *(f"warning: {line}" for line in record["warnings"])] if record["warnings"] else ["", "no warnings"]
    return "\n".join([*head, *body, *tail])


def _device(topology: Record, device: Record) -> str:
    of = "" if topology["devices"] == topology["chips"] else f" (each one of {topology['chips']} chips' cores)"
    return (
        f"devices: {topology['devices']} of {device['name']}{of}, each of {device['flops'] / 1e12:.0f} TFLOP/s "
        f"bfloat16, {device['bandwidth'] / 1e9:.0f} GB/s, {device['memory'] / 1e9:.1f} GB"
    )


def _step(name: str, step: Record, device: Record | None) -> Iterator[str]:
    yield f"{name}: {step['examples']} examples a device"
    if "stablehlo_bytes" in step:
        yield from _exported(step)
    elif not step["fits"] and "memory" not in step:
        needed = "" if step["needed"] is None else f": {_bytes(step['needed'])} needed"
        yield f"  the compiler refuses it for want of memory{needed}"
    else:
        yield from _compiled(step, device)


def _exported(step: Record) -> Iterator[str]:
    yield f"  exported for {', '.join(step['platforms'])}: {_bytes(step['stablehlo_bytes'])} of StableHLO"
    yield f"  arguments        {_bytes(step['arguments'])} a device"
    yield f"  FLOPs            {_scaled(step['flops'])} a device, before optimisation"
    found = ", ".join(f"{count} {kind}" for kind, count in step["collectives"].items())
    kinds = ", ".join(f"{count} {kind}" for kind, count in step["convolutions"].items())
    yield f"  convolutions     {kinds or 'none'}"
    yield f"  memory reused    by the outputs: that of {step['reused']} arrays"
    yield f"  collectives      {found or 'made by the compiler of the platform, when it divides the program'}"
    yield "  memory, bytes accessed and time are known to a compiler of the platform alone"


def _compiled(step: Record, device: Record | None) -> Iterator[str]:
    memory = step["memory"]
    share = "" if device is None else f", {memory['total'] / device['memory']:.0%} of {_bytes(device['memory'])}"
    yield (
        f"  memory           {_bytes(memory['total'])}{share}: arguments {_bytes(memory['arguments'])}, "
        f"outputs {_bytes(memory['outputs'])}, temporaries {_bytes(memory['temporaries'])}"
    )
    yield f"  FLOPs            {_scaled(step['flops'])} (the network's own: {_scaled(step['model_flops'])})"
    yield f"  bytes accessed   {_bytes(step['accessed'])}"
    for group in step["collectives"]:
        yield (
            f"  {group['kind']:<16} {group['count']} of {group['arrays']} arrays, {_bytes(group['bytes'])} in all, "
            f"{_bytes(group['largest'])} the largest"
        )
    if not step["collectives"]:
        yield "  collectives      none"
    if step["bounds"] is not None:
        yield from _times(step, step["bounds"])


def _times(step: Record, bounds: Record) -> Iterator[str]:
    yield (
        f"  roofline         {_milliseconds(bounds['bound_seconds'])}, bound by {bounds['binds']} (FLOPs "
        f"{_milliseconds(bounds['compute_seconds'])}, bytes {_milliseconds(bounds['memory_seconds'])}); "
        f"model FLOPs utilisation {bounds['utilisation_at_bound']:.1%}"
    )
    if bounds["estimated_seconds"] is not None:
        rate = step["examples"] / bounds["estimated_seconds"]
        yield (
            f"  estimate         {_milliseconds(bounds['estimated_seconds'])} ({_scaled(step['cycles'])} cycles), "
            f"{rate:,.0f} examples/s a device; model FLOPs utilisation {bounds['utilisation_estimated']:.1%}"
        )
    if step["unestimated"]:
        kinds = ", ".join(f"{one['count']} {one['kind']} ({_bytes(one['bytes'])})" for one in step["unestimated"])
        yield f"  not in this sum  {kinds}"
    if bounds["all_reduce_seconds"]:
        yield f"  all-reduce       {_milliseconds(bounds['all_reduce_seconds'])} by a ring's model, were none hidden"


def _bytes(size: float) -> str:
    return f"{_scaled(size)}B"


def _scaled(number: float) -> str:
    unit, scale = next((unit, scale) for unit, scale in UNITS if number >= scale or scale == 1.0)
    return f"{number / scale:.4g} {unit}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms"
