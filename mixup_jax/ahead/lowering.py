"""A config's training step and prediction, for devices and arguments that are not there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.ahead.program import Call
from mixup_jax.config import Config
from mixup_jax.data.augment import input_shape, inputs_of
from mixup_jax.data.feed import feed_of
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.devices.mesh import AXIS
from mixup_jax.prediction.predict import jitted, plain, shared_batch
from mixup_jax.state import run_keys
from mixup_jax.training.parallel import make_step
from mixup_jax.training.trainer import Parts, count_steps, initial_state, parts_of

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


def parts_for(config: Config, spec: DatasetSpec, mesh: Mesh, shapes: Shapes) -> Parts:
    """Returns the parts of a run on data of these shapes; an InputError if there are too few examples for a batch."""
    # How many steps an epoch of streamed examples has changes a number of the schedule, and no shape.
    steps_per_epoch = count_steps(config, shapes.examples) if feed_of(config, spec).resident else 1
    return parts_of(config, spec, mesh, steps_per_epoch, shapes.words if spec.task == "text" else 0)


def train_call(config: Config, spec: DatasetSpec, parts: Parts, mesh: Mesh, shapes: Shapes) -> Call:
    """Returns the training step of a config over a mesh."""
    replicated = None if config.parallel == "pmap" else NamedSharding(mesh, PartitionSpec())
    initialise = partial(initial_state, parts.model, parts.optimizer, input_shape=input_shape(spec, config.data))
    state = jax.eval_shape(initialise, jax.random.key(0))
    keys = jax.eval_shape(run_keys, 0)
    feed = feed_of(config, spec)
    step = make_step(parts.train_step, feed, mesh, parallel=config.parallel)
    fed = feed.shapes(_example(config, spec), shapes.examples, mesh)
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
    """Returns the shapes of so many examples, and of their numbers."""
    example = _example(config, spec)
    inputs = jax.ShapeDtypeStruct((batch, *example.shape), example.dtype)
    return inputs, jax.ShapeDtypeStruct((batch,), jnp.int32)


def _example(config: Config, spec: DatasetSpec) -> jax.ShapeDtypeStruct:
    """Returns the shape of one example."""
    return jax.ShapeDtypeStruct(input_shape(spec, config.data), jnp.int32 if spec.task == "text" else jnp.uint8)


def _placed(tree: Any, sharding: NamedSharding | None) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
