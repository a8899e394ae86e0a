"""A config's training step and prediction, for devices and arguments that are not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.ahead.program import Call
from mixup_jax.config import Config
from mixup_jax.data.feed import feed_of
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.devices.mesh import AXIS
from mixup_jax.prediction.predict import jitted, plain, shared_batch
from mixup_jax.state import run_keys
from mixup_jax.training.parallel import make_step
from mixup_jax.training.trainer import Parts, count_steps, parts_of

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
    """Returns the FLOPs of the network on one example, those that it asks for and not those that a compiler makes."""
    traced = jax.jit(plain(parts.model, parts.standardise)).trace(*_prediction_arguments(parts, spec, 1))
    # For a CPU convolutions may be calls of kernels, whose FLOPs XLA does not know.
    cost: Any = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    return float(cost["flops"])


def _prediction_arguments(parts: Parts, spec: DatasetSpec, batch: int) -> tuple[Any, ...]:
    """Returns the shapes of variables, so many examples, and their numbers."""
    variables = jax.eval_shape(parts.initial_state, jax.random.key(0)).variables
    return variables, _examples(parts, spec, batch), jax.ShapeDtypeStruct((batch,), jnp.int32)


def _examples(parts: Parts, spec: DatasetSpec, *batch: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of one example, or of a batch of them."""
    return jax.ShapeDtypeStruct((*batch, *parts.input_shape), jnp.int32 if spec.task == "text" else jnp.uint8)


def _placed(tree: Any, sharding: NamedSharding | None) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
