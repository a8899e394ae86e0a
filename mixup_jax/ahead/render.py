"""The record of compiling ahead, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]
ASSUMED = {
    "examples": "training examples on every device (--examples=N)",
    "words": "words of a vocabulary (--vocabulary=N)",
}
UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0))


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
