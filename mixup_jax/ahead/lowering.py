"""A config's training step and prediction, for devices and arguments that are not there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.config import Config
from mixup_jax.data.catalog import DatasetSpec
from mixup_jax.data.inputs import input_shape, inputs_of
from mixup_jax.data.resident import Resident
from mixup_jax.devices.mesh import AXIS
from mixup_jax.prediction.predict import jitted, plain, shared_batch
from mixup_jax.state import run_keys
from mixup_jax.training.run import Parts, count_steps, mapped_step, parts_of
from mixup_jax.training.state import initial_state

BACKWARD = 3
"""FLOPs of a training step by those of the forward pass: a convolution or product has two more as its gradient."""


@dataclass(frozen=True)
class Shapes:
    """What must be known of data that is not read.

    Attributes:
      examples: training examples that are kept on the devices, where they are.
      words: size of a text's vocabulary.
    """

    examples: int
    words: int


class Call(NamedTuple):
    """A jitted function and the shapes, with shardings, of what it is called with: it can be lowered or exported.

    Attributes:
      function: has the method `lower`.
      arguments: trees of `jax.ShapeDtypeStruct`.
      examples: that one device computes.
    """

    function: Any
    arguments: tuple[Any, ...]
    examples: int


def parts_for(config: Config, spec: DatasetSpec, mesh: Mesh, shapes: Shapes) -> Parts:
    """Returns the parts of a run on data of these shapes; an InputError if there are too few examples for a batch."""
    # How many steps an epoch of streamed examples has changes a number of the schedule, and no shape.
    steps_per_epoch = 1 if spec.streams else count_steps(config, shapes.examples)
    return parts_of(config, spec, mesh, steps_per_epoch, shapes.words if spec.task == "text" else 0)


def train_call(config: Config, spec: DatasetSpec, parts: Parts, mesh: Mesh, shapes: Shapes) -> Call:
    """Returns the training step of a config over a mesh."""
    replicated = None if config.parallel == "pmap" else NamedSharding(mesh, PartitionSpec())
    initialise = partial(initial_state, parts.model, parts.optimizer, input_shape=input_shape(spec, config.data))
    state = jax.eval_shape(initialise, jax.random.key(0))
    keys = jax.eval_shape(run_keys, 0)
    step = mapped_step(parts, config, spec, mesh)
    fed = _batch(config, spec, mesh) if spec.streams else _placed(_resident(config, spec, shapes), replicated)
    placed = (_placed(state, replicated), *fed, _placed((keys.augment, keys.step), replicated))
    return Call(step.function, (*step.first, *placed), config.batch_size // mesh.devices.size)


def eval_call(config: Config, spec: DatasetSpec, parts: Parts, mesh: Mesh) -> Call:
    """Returns the prediction of one batch of evaluation over a mesh."""
    replicated, sharded = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (AXIS,)))
    variables = _variables(config, spec, parts)
    batch = shared_batch(config.evaluation.batch_size, mesh.devices.size)
    compute = plain(parts.model, inputs_of(spec))
    arguments = (_placed(variables, replicated), *_placed(_inputs(config, spec, batch), sharded))
    return Call(jitted(compute, mesh), arguments, batch // mesh.devices.size)


def forward_flops(config: Config, spec: DatasetSpec, parts: Parts) -> float:
    """Returns the FLOPs of the network on one example, those that it asks for and not those that a compiler makes."""
    images, rows = _inputs(config, spec, 1)
    compute = plain(parts.model, inputs_of(spec))
    traced = jax.jit(compute).trace(_variables(config, spec, parts), images, rows)
    # For a CPU convolutions may be calls of kernels, whose FLOPs XLA does not know.
    cost: Any = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    return float(cost["flops"])


def _variables(config: Config, spec: DatasetSpec, parts: Parts) -> Any:
    initialise = partial(initial_state, parts.model, parts.optimizer, input_shape=input_shape(spec, config.data))
    return jax.eval_shape(initialise, jax.random.key(0)).variables


def _inputs(config: Config, spec: DatasetSpec, batch: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns the shapes of so many examples, and of their labels or numbers."""
    dtype = jnp.int32 if spec.task == "text" else jnp.uint8
    inputs = jax.ShapeDtypeStruct((batch, *input_shape(spec, config.data)), dtype)
    return inputs, jax.ShapeDtypeStruct((batch,), jnp.int32)


def _batch(config: Config, spec: DatasetSpec, mesh: Mesh) -> Any:
    """Returns what a streamed feed yields."""
    inputs, labels = _inputs(config, spec, config.batch_size)
    if config.parallel == "jit":
        return _placed((inputs, labels), NamedSharding(mesh, PartitionSpec(AXIS)))
    devices = mesh.devices.size
    each = (devices, config.batch_size // devices)
    return tuple(jax.ShapeDtypeStruct((*each, *one.shape[1:]), one.dtype) for one in (inputs, labels))


def _resident(config: Config, spec: DatasetSpec, shapes: Shapes) -> Any:
    """Returns what a resident feed yields."""
    held: Any = _inputs(config, spec, shapes.examples)
    return Resident(*held), jax.ShapeDtypeStruct((shapes.examples,), jnp.int32)


def _placed(tree: Any, sharding: NamedSharding | None) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
