"""Reads collectives, transfers to the host and estimated cycles from a compiled program.

The input is the text of optimised HLO, from `jax.stages.Compiled.as_text()` for CPU, GPU or TPU.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce", "all-gather", "all-to-all", "ragged-all-to-all", "collective-broadcast", "collective-permute",
    "reduce-scatter",
)  # fmt: skip
WEIGHTY = (
    *("convolution", "copy", "dot", "gather", "pad", "reduce-window", "scatter", "select-and-scatter", "sort"),
    *("transpose", "while"),
)
TRANSFERS = ("infeed", "outfeed", "send", "recv")

_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"\w+=\{?(%[\w.-]+(?:, %[\w.-]+)*)")
_SHAPE = re.compile(r"([a-z][a-z0-9]*)\[([\d,<=]*)\]")
_SOURCE = re.compile(r'op_name="([^"]*)"')
_CHAIN = re.compile(r'chain_id="(\w+)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_NO_ESTIMATE = 2**63 - 1
"""What the TPU compiler writes for an operation that it could not estimate, such as some fusions with a convolution."""


class Shape(NamedTuple):
    """An array on one device: its element type as HLO writes it (f32, bf16, u8, pred, ..), and its dimensions."""

    dtype: str
    dimensions: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size without padding; 0 for a type without data, such as a token."""
        if self.dtype == "pred":
            return math.prod(self.dimensions)
        bits = re.match(r"[a-z]+(\d+)", self.dtype)
        return -(-math.prod(self.dimensions) * int(bits[1]) // 8) if bits else 0


class Collective(NamedTuple):
    """One communication between devices.

    Attributes:
      kind: one of COLLECTIVES; an asynchronous one counts once.
      shapes: of its results on one device; one all-reduce may reduce many arrays.
      in_loop: whether every iteration of a loop does it.
      source: the operation of the program that it belongs to, as jax names it; empty if unknown.
    """

    name: str
    kind: str
    shapes: tuple[Shape, ...]
    in_loop: bool
    source: str

    @property
    def bytes(self) -> int:
        """Bytes of its results on one device."""
        return sum(shape.bytes for shape in self.shapes)


@dataclass(frozen=True)
class Unestimated:
    """The number of operations of one kind, and the bytes of their results on one device."""

    kind: str
    count: int
    bytes: int


class _Instruction(NamedTuple):
    computation: str
    name: str
    result: str
    opcode: str
    rest: str


def collectives(text: str) -> list[Collective]:
    """Returns the collectives of a compiled module, in the order of its text."""
    instructions = list(_instructions(text))
    looped = _looped(instructions)
    found: dict[str, Collective] = {}
    for one in instructions:
        kind = one.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        source = _SOURCE.search(one.rest)
        record = Collective(one.name, kind, _results(one), one.computation in looped, source[1] if source else "")
        # On a TPU an asynchronous collective appears in its start, in the operations that it overlaps with, and in its
        # end, linked by a number. One that overlaps with a whole loop is not repeated in each iteration.
        chain = _CHAIN.search(one.rest)
        key = f"{kind} {chain[1]}" if chain else one.name
        known = found.setdefault(key, record)
        found[key] = known._replace(in_loop=known.in_loop and record.in_loop)
    return list(found.values())


def host_transfers(text: str) -> list[str]:
    """Returns a compiled module's exchanges with its host while it runs, `name: kind`, in the order of its text.

    These are infeeds, outfeeds, sends, receives, and calls of Python.
    """
    found = []
    for one in _instructions(text):
        target = _TARGET.search(one.rest)
        if one.opcode in TRANSFERS:
            found.append(f"{one.name}: {one.opcode}")
        elif one.opcode == "custom-call" and target and "callback" in target[1]:
            found.append(f"{one.name}: {target[1]}")
    return found


def estimated_cycles(text: str) -> int | None:
    """Returns the sum of the cycles that the TPU compiler estimates for each operation; None for other compilers.

    The body of a loop counts once.  Asynchronous collectives and copies do not count.
    """
    cycles = [int(number) for number in _CYCLES.findall(text)]
    return sum(number for number in cycles if number != _NO_ESTIMATE) if cycles else None


def unestimated(text: str) -> list[Unestimated]:
    """Returns the operations of a compiled module that may take time but have no estimate of cycles, largest first.

    These are operations of WEIGHTY outside of fusions, and those that the compiler says it could not estimate; the
    estimate of a fusion includes the operations in it.
    """
    instructions = list(_instructions(text))
    fused = {name for one in instructions if one.opcode == "fusion" for name in _called(one)}
    found: dict[str, list[int]] = {}
    for one in instructions:
        estimate = _CYCLES.search(one.rest)
        missing = one.opcode in WEIGHTY if estimate is None else int(estimate[1]) == _NO_ESTIMATE
        if missing and one.computation not in fused:
            found.setdefault(one.opcode, []).append(sum(shape.bytes for shape in _results(one)))
    kinds = (Unestimated(kind, len(sizes), sum(sizes)) for kind, sizes in found.items())
    return sorted(kinds, key=lambda kind: -kind.bytes)


def _instructions(text: str) -> Iterator[_Instruction]:
    computation = ""
    for line in text.splitlines():
        if not line.startswith(" "):
            header = _COMPUTATION.match(line)
            computation = header[1] if header else computation
            continue
        name, equals, definition = line.strip().removeprefix("ROOT ").partition(" = ")
        if equals:
            result = next(_elements(definition, " "))
            opcode, _, rest = definition[len(result) + 1 :].partition("(")
            yield _Instruction(computation, name.removeprefix("%"), result, opcode, rest)


def _results(one: _Instruction) -> tuple[Shape, ...]:
    """Returns the shapes of a collective's results; a start, except of all-reduce, lists its operands before them."""
    result = one.result
    if one.opcode.endswith("-start") and one.opcode != "all-reduce-start":
        _, result, *_ = _elements(result[1:-1], ",")
    return tuple(
        Shape(dtype, tuple(int(size.removeprefix("<=")) for size in dimensions.split(",") if size))
        for dtype, dimensions in _SHAPE.findall(result)
    )


def _elements(text: str, separator: str) -> Iterator[str]:
    """Yields the parts of a text between separators, ignoring separators within brackets."""
    start, depth = 0, 0
    for position, mark in enumerate(text):
        depth += (mark in "([{") - (mark in ")]}")
        if mark == separator and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def _called(one: _Instruction) -> set[str]:
    """Returns the computations that an instruction names."""
    return {name.lstrip(" %") for names in _CALLED.findall(one.rest) for name in names.split(",")}


def _looped(instructions: list[_Instruction]) -> set[str]:
    """Returns the computations that loops repeat in every iteration, directly or by calls."""
    calls: dict[str, set[str]] = {}
    reached: set[str] = set()
    for one in instructions:
        called = _called(one)
        calls.setdefault(one.computation, set()).update(called)
        if one.opcode == "while":
            reached |= called
    waiting = list(reached)
    while waiting:
        for name in calls.get(waiting.pop(), set()) - reached:
            reached.add(name)
            waiting.append(name)
    return reached
