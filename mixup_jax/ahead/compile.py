"""Compiles a config's training step and prediction for devices that this machine need not have, without the data."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.ahead.program import Call, compile_program, export_record
from mixup_jax.ahead.record import SCHEMA, program_record, warnings
from mixup_jax.ahead.topology import Target, find_target
from mixup_jax.config import Config, to_dict
from mixup_jax.data.feed import feed_of
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.devices.mesh import AXIS
from mixup_jax.errors import InputError
from mixup_jax.prediction.predict import jitted, plain, shared_batch
from mixup_jax.progress import duration, heartbeat
from mixup_jax.runs.workdir import version_of
from mixup_jax.state import run_keys
from mixup_jax.training.step import check_divisible, make_step, splits_groups
from mixup_jax.training.trainer import Parts, check_config, count_steps, parts_of

Report = Callable[[str], None]
PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "mixup_jax")
EVERY = 30.0
"""Seconds between lines of progress."""
BACKWARD = 3
"""FLOPs of a training step divided by those of the forward pass: the gradient of a product is two more products."""


@dataclass(frozen=True)
class Shapes:
    """Sizes of the data, which is not read.

    Attributes:
      examples: the number of training examples, if they are kept on the devices.
      words: the size of the vocabulary, for text.
    """

    examples: int
    words: int


def compile_ahead(
    config: Config, topology: str, steps: tuple[str, ...], shapes: Shapes, report: Report
) -> dict[str, Any]:
    """Compiles a config's steps for a topology; returns a record of memory, FLOPs and times (docs/scaling.md).

    Raises:
      InputError: before anything is compiled: the config names something unknown, there is no such topology, its
        devices cannot share the batch, or a step cannot be compiled for it.
    """
    spec = check_config(config)
    target = find_target(topology)
    check_divisible(config.batch_size, target.mesh.devices.size)
    if config.parallel == "pmap" and target.platform != "cpu":
        raise InputError(
            f"parallel is 'pmap', which jax lowers for devices of this machine alone; expected jit for {topology}"
        )
    parts = parts_for(config, spec, target.mesh, shapes)
    calls = {
        "train": lambda: train_call(config, spec, parts, target.mesh, shapes),
        "eval": lambda: eval_call(config, spec, parts, target.mesh),
    }
    needed = forward_flops(spec, parts)
    factors = {"train": BACKWARD * config.method.copies + config.method.looks_first, "eval": 1}
    # Sizes that are assumed, because the data is not read.
    assumed = {"examples": shapes.examples} if feed_of(config, spec).resident else {}
    assumed |= {"words": shapes.words} if spec.task == "text" else {}
    records = {name: _step(name, calls[name](), target, needed * factors[name], report) for name in steps}
    return {
        "schema": SCHEMA,
        "config": to_dict(config),
        "topology": {
            "name": target.name,
            "platform": target.platform,
            "devices": target.mesh.devices.size,
            "chips": target.chips,
            "device": None if target.chip is None else dataclasses.asdict(target.chip),
        },
        "assumed": assumed,
        "versions": {name: version for name in PACKAGES if (version := version_of(name))},
        "steps": records,
        "warnings": [
            *_spanning(config, target),
            *(line for name, record in records.items() for line in warnings(record, name)),
        ],
    }


def parts_for(config: Config, spec: DatasetSpec, mesh: Mesh, shapes: Shapes) -> Parts:
    """Returns the parts of a run on data of these sizes; InputError if there are too few examples for a batch."""
    # For streamed examples the length of an epoch changes only the schedule, not a shape, so 1 will do.
    steps_per_epoch = count_steps(config, shapes.examples) if feed_of(config, spec).resident else 1
    return parts_of(config, spec, mesh, steps_per_epoch, shapes.words if spec.task == "text" else 0)


def train_call(config: Config, spec: DatasetSpec, parts: Parts, mesh: Mesh, shapes: Shapes) -> Call:
    """Returns the training step of a config over a mesh."""
    replicated = None if config.parallel == "pmap" else NamedSharding(mesh, PartitionSpec())
    state = jax.eval_shape(parts.initial_state, jax.random.key(0))
    keys = jax.eval_shape(run_keys, 0)
    feed = feed_of(config, spec)
    step = make_step(parts.train_step, feed, mesh, parallel=config.parallel)
    fed = feed.shapes(_examples(parts, spec), shapes.examples, mesh)
    placed = (_placed(state, replicated), *fed, _placed((keys.augment, keys.step), replicated))
    return Call(step.function, (*step.first, *placed), config.batch_size // mesh.devices.size)


def eval_call(config: Config, spec: DatasetSpec, parts: Parts, mesh: Mesh) -> Call:
    """Returns the prediction of one batch of evaluation over a mesh."""
    replicated, sharded = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (AXIS,)))
    batch = shared_batch(config.evaluation.batch_size, mesh.devices.size)
    variables, inputs, rows = _prediction_arguments(parts, spec, batch)
    arguments = (_placed(variables, replicated), *_placed((inputs, rows), sharded))
    return Call(jitted(plain(parts.model, parts.standardise), mesh), arguments, batch // mesh.devices.size)


def forward_flops(spec: DatasetSpec, parts: Parts) -> float:
    """Returns the FLOPs of the network on one example, as written, before a compiler changes them."""
    traced = jax.jit(plain(parts.model, parts.standardise)).trace(*_prediction_arguments(parts, spec, 1))
    # Not for a CPU, where convolutions may be calls of kernels whose FLOPs XLA does not know.
    cost: Any = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    return float(cost["flops"])


def _prediction_arguments(parts: Parts, spec: DatasetSpec, batch: int) -> tuple[Any, ...]:
    """Returns the shapes of the variables, of `batch` examples, and of their numbers."""
    variables = jax.eval_shape(parts.initial_state, jax.random.key(0)).variables
    return variables, _examples(parts, spec, batch), jax.ShapeDtypeStruct((batch,), jnp.int32)


def _examples(parts: Parts, spec: DatasetSpec, *batch: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of one example, or of a batch of them."""
    return jax.ShapeDtypeStruct((*batch, *parts.input_shape), jnp.int32 if spec.task == "text" else jnp.uint8)


def _placed(tree: Any, sharding: NamedSharding | None) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _spanning(config: Config, target: Target) -> list[str]:
    """Returns a warning if examples on different devices are mixed."""
    devices = target.mesh.devices.size
    if not splits_groups(config.batch_size, config.method, devices):
        return []
    held, size = config.batch_size // devices, config.method.group(config.batch_size)
    return [
        f"mixing groups of {size} examples span devices that hold {held} each, so that they are communicated; "
        "take a larger batch, or a method.group_size that divides what a device holds"
    ]


def _step(name: str, call: Call, target: Target, model_flops: float, report: Report) -> dict[str, Any]:
    if target.platform == "cuda":
        with _progress(f"exporting {name} for {target.name}", report):
            return export_record(call, target.platform, target.mesh.devices.size)
    with _progress(f"compiling {name} for {target.name}", report):
        program = compile_program(call.function.lower(*call.arguments), call.examples)
    return program_record(program, target, model_flops * call.examples)


@contextlib.contextmanager
def _progress(what: str, report: Report) -> Iterator[None]:
    """Reports when something begins, while it runs, and how long it took."""
    start = time.monotonic()

    def took() -> str:
        return duration(time.monotonic() - start)

    report(f"{what} (a large network takes minutes)")
    with heartbeat(lambda: report(f"{what}: {took()} so far"), EVERY):
        yield
    report(f"{what}: done in {took()}")
