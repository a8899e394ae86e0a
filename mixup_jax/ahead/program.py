"""Memory, FLOPs, bytes, cycles and collectives of a program, read from it after it is compiled or exported."""

import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from mixup_jax.ahead.hlo import Collective, Unestimated, collectives, estimated_cycles, host_transfers, unestimated
from mixup_jax.cpu_convolution import CALLED_AS

_COLLECTIVE = re.compile(r"stablehlo\.(all_reduce|all_gather|all_to_all|reduce_scatter|collective_\w+)\b")
_CONVOLUTION = re.compile(r"stablehlo\.convolution\(.*dim_numbers = \[([^\]]*)\].*: \(tensor<(?:\d+x)*(\w+)>")
_REUSED = re.compile(r"tf\.aliasing_output|jax\.buffer_donor")
_USED = re.compile(r"Used ([\d.]+)([KMGT]?) of")


@dataclass(frozen=True)
class Memory:
    """Bytes on one device: of the arguments, of the results that do not reuse their memory, and of all else at once.

    Temporaries include the program's code.
    """

    arguments: int
    outputs: int
    temporaries: int

    @property
    def total(self) -> int:
        """The sum of the three."""
        return self.arguments + self.outputs + self.temporaries


@dataclass(frozen=True)
class Group:
    """The collectives of one kind; a combined one, which moves many arrays, counts once.

    `bytes` are those of their results on one device, `largest` those of the largest; `in_loop` counts those that are
    repeated in every iteration of a loop.
    """

    kind: str
    count: int
    arrays: int
    bytes: int
    largest: int
    in_loop: int


@dataclass(frozen=True)
class Program:
    """A compiled step, as one device sees it.

    Attributes:
      flops: counted by the compiler after optimisation.
      accessed: bytes that the program's operations read and write, including on-chip memory.
      cycles: sum of the compiler's estimates for the operations; None if it makes no estimates.
      unestimated: the operations without an estimate.
      kernels: the number of calls of `cpu_convolution`, whose FLOPs and bytes the compiler does not know.
    """

    examples: int
    seconds: float
    memory: Memory
    flops: float
    accessed: float
    cycles: int | None
    unestimated: tuple[Unestimated, ...]
    collectives: tuple[Group, ...]
    transfers: tuple[str, ...]
    kernels: int = 0


@dataclass(frozen=True)
class Unfit:
    """A step that the compiler refuses, because it needs too much memory.

    Attributes:
      needed: bytes on one device; None if the compiler does not say.
    """

    examples: int
    seconds: float
    needed: float | None


class Call(NamedTuple):
    """A jitted function and the shapes and shardings of its arguments, so that it can be lowered or exported.

    Attributes:
      arguments: trees of `jax.ShapeDtypeStruct`.
      examples: the number that one device computes.
    """

    function: Any
    arguments: tuple[Any, ...]
    examples: int


def compile_program(lowered: jax.stages.Lowered, examples: int) -> Program | Unfit:
    """Compiles a step, which may take minutes, and reads the result."""
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Unfit(examples, time.monotonic() - start, _needed(str(error)))
    return read_program(compiled, examples, time.monotonic() - start)


def read_program(compiled: jax.stages.Compiled, examples: int, seconds: float) -> Program:
    """Reads a compiled step."""
    text, memory, cost = compiled.as_text(), compiled.memory_analysis(), compiled.cost_analysis()
    if text is None or memory is None or cost is None:
        raise AssertionError("a compiler that says nothing of its program")
    return Program(
        examples=examples,
        seconds=seconds,
        memory=Memory(
            arguments=memory.argument_size_in_bytes,
            outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
            temporaries=memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        ),
        flops=cost["flops"],
        accessed=cost["bytes accessed"],
        cycles=estimated_cycles(text),
        unestimated=tuple(unestimated(text)),
        collectives=grouped(collectives(text)),
        transfers=tuple(host_transfers(text)),
        kernels=text.count(f'custom_call_target="{CALLED_AS}'),
    )


def grouped(found: Sequence[Collective]) -> tuple[Group, ...]:
    """Returns the collectives grouped by kind, the group with the most bytes first."""
    groups = []
    for kind in Counter(one.kind for one in found):
        these = [one for one in found if one.kind == kind]
        sizes = [one.bytes for one in these]
        arrays, looped = sum(len(one.shapes) for one in these), sum(one.in_loop for one in these)
        groups.append(Group(kind, len(these), arrays, sum(sizes), max(sizes), looped))
    return tuple(sorted(groups, key=lambda group: -group.bytes))


def _needed(message: str) -> float | None:
    """Returns the bytes that the step would use, according to libtpu's error message."""
    found = _USED.search(message)
    return float(found[1]) * 1024 ** " KMGT".index(found[2] or " ") if found else None


def export_record(call: Call, platform: str, devices: int) -> dict[str, Any]:
    """Returns what is known of a step before the compiler of its platform has compiled it.

    `arguments` are bytes on one device.  `flops` is one device's share of the FLOPs before optimisation.
    `collectives` counts those written in the program: none under jit, where the platform's compiler adds them when it
    divides the program among the devices.  Only that compiler can tell whether the step fits the memory.
    `convolutions` counts them by type and order of the axes of their input, such as `bf16 b01f`: b is the batch, f the
    channels (in gradients of kernels the other way round).  `reused` counts the arrays whose memory an output may take
    over.  No exported program calls the host: JAX exports none that does.
    """
    exported = jax.export.export(call.function, platforms=[platform])(*call.arguments)
    text = exported.mlir_module()
    convolutions = [f"{kind} {order.replace(', ', '')}" for order, kind in _CONVOLUTION.findall(text)]
    cost: Any = call.function.trace(*call.arguments).lower(lowering_platforms=(platform,)).cost_analysis()
    return {
        "examples": call.examples,
        "fits": None,
        "platforms": list(exported.platforms),
        "devices": exported.nr_devices,
        "stablehlo_bytes": len(exported.mlir_module_serialized),
        "arguments": sum(_bytes_on_device(leaf) for leaf in jax.tree.leaves(call.arguments)),
        "flops": float(cost["flops"]) / devices,
        "collectives": dict(Counter(_COLLECTIVE.findall(text))),
        "convolutions": dict(Counter(convolutions)),
        "reused": len(_REUSED.findall(text)),
    }


def _bytes_on_device(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
    return math.prod(shape) * leaf.dtype.itemsize
