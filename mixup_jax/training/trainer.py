"""Builds a run from its config: the compiled training step, the compiled prediction and the initial state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.sharding import Mesh

from mixup_jax.config import Config
from mixup_jax.data.augment import check_augmentation, input_shape, inputs_of
from mixup_jax.data.catalog import check_ood_name
from mixup_jax.data.feed import Fed, Feed, feed_of
from mixup_jax.data.load import run_spec
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.data.text import Vocabulary
from mixup_jax.devices.mesh import AXIS, device_mesh, replicate
from mixup_jax.errors import InputError
from mixup_jax.escapes import print_line
from mixup_jax.libraries import fast_to_compile
from mixup_jax.models import check_model, init_variables, model_of
from mixup_jax.models.own import check_contract, is_own
from mixup_jax.prediction.predict import Predict, make_predict, plain
from mixup_jax.state import RunKeys, TrainState, run_keys
from mixup_jax.training.optimizer import HEAD, learning_rate, make_optimizer, with_classes
from mixup_jax.training.parallel import make_step
from mixup_jax.training.step import Metrics, TrainStep, make_train_step, skipping

OWN_VOCABULARY = 100
"""The number of words with which a network from outside of the package is tried before the texts are read."""


class Parts(NamedTuple):
    """The parts of a run, before anything is compiled or placed on a device.

    Attributes:
      input_shape: of one input: `(H, W, C)` of an image, `(L,)` of the tokens of a text.
      standardise: maps pixels to the network's inputs; the identity for text.
      train_step: for all devices together, or under pmap for one device.
    """

    model: nn.Module
    input_shape: tuple[int, ...]
    standardise: Callable[[jax.Array], jax.Array]
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train_step: TrainStep

    def initial_state(self, key: jax.Array) -> TrainState:
        """Returns the state at step 0, with parameters drawn from a key."""
        return initial_state(self.model, self.optimizer, key, input_shape=self.input_shape)


@dataclass(frozen=True)
class Trainer:
    """The parts of a run that do not change, compiled for its devices.

    `step` takes the state and one item of `batches`, and returns the next state and the metrics.
    """

    config: Config
    spec: DatasetSpec
    step: Callable[..., tuple[TrainState, Metrics]]
    feed: Feed
    predict: Predict
    schedule: optax.Schedule
    keys: RunKeys
    mesh: Mesh
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """The number of optimiser steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    def batches(self, train: ExampleSet, first_step: int) -> Fed:
        """Yields the arguments of `step` other than the state, for step `first_step` (from 0) and the following."""
        return self.feed.fed(train, self.keys.order, self.mesh, first_step)


def check_config(
    config: Config, data_dir: Path | None = None, report: Callable[[str], None] = print_line
) -> DatasetSpec:
    """Returns the catalogue's entry of the training set; raises InputError for any unknown name."""
    spec = run_spec(config.data, data_dir, report)
    check_model(config.model, task=spec.task)
    if is_own(config.model.name):
        _check_own_network(config, spec)
    config.method.check_task(spec.task)
    check_augmentation(config.data, spec)
    for name in config.evaluation.ood:
        check_ood_name(name, spec)
    return spec


def _check_own_network(config: Config, spec: DatasetSpec) -> None:
    """Raises InputError unless a network from outside of the package can be trained as the config asks."""
    name, text, embedding = config.model.name, spec.task == "text", config.data.vector_size
    model = model_of(
        config.model, classes=spec.classes, vocabulary=OWN_VOCABULARY if text else 0, embedding=embedding if text else 0
    )
    example = jax.ShapeDtypeStruct(input_shape(spec, config.data), jnp.int32 if text else jnp.float32)
    hidden, mapped = config.method.layer == "random", config.parallel == "pmap"
    params = check_contract(name, model, example, spec.classes, hidden=hidden, mapped=mapped)
    if config.optimizer.max_norm and "kernel" not in params.get(HEAD, {}):
        raise InputError(f"optimizer.max_norm is {config.optimizer.max_norm}; expected 0: {name} has no {HEAD}/kernel")
    table = params.get("embedding", {}).get("embedding")
    if text and config.data.vectors and getattr(table, "shape", None) != (OWN_VOCABULARY, embedding):
        raise InputError(
            f"model.name is {name!r}, but it has no word vectors embedding/embedding [V, E]; expected "
            "nn.Embed(self.vocabulary, self.embedding_size, name='embedding') (docs/own-network.md)"
        )


def count_steps(config: Config, examples: int) -> int:
    """Returns the number of whole batches in an epoch; raises InputError if it is 0."""
    if config.batch_size > examples:
        raise InputError(
            f"batch_size is {config.batch_size}, larger than the {examples} training examples; "
            f"expected at most {examples}"
        )
    return examples // config.batch_size


def prepare(
    config: Config,
    spec: DatasetSpec,
    steps_per_epoch: int,
    vocabulary: Vocabulary | None = None,
    embedding: npt.NDArray[np.float32] | None = None,
) -> tuple[Trainer, TrainState]:
    """Returns the trainer of a run and its state at step 0.

    `embedding` holds the initial word vectors `[V, E]`; without it they are random.
    """
    mesh, keys = device_mesh(), run_keys(config.seed)
    parts = parts_of(config, spec, mesh, steps_per_epoch, 0 if vocabulary is None else len(vocabulary))
    feed, step_keys = feed_of(config, spec), replicate(mesh, (keys.augment, keys.step))
    mapped = make_step(parts.train_step, feed, mesh, parallel=config.parallel)
    forward = plain(parts.model, parts.standardise)
    predict = make_predict(forward, mesh, batch_size=config.evaluation.batch_size)
    state = jax.jit(parts.initial_state, compiler_options=fast_to_compile(jax.default_backend()))(keys.init)
    if embedding is not None:
        params = {**state.params, "embedding": {"embedding": jnp.asarray(embedding)}}
        state = state._replace(params=params)

    def step(state: TrainState, *fed: Any) -> tuple[TrainState, Metrics]:
        return mapped(state, *fed, step_keys)

    trainer = Trainer(config, spec, step, feed, predict, parts.schedule, keys, mesh, steps_per_epoch)
    return trainer, replicate(mesh, state)


def parts_of(config: Config, spec: DatasetSpec, mesh: Mesh, steps_per_epoch: int, words: int) -> Parts:
    """Returns the parts of a run; `words` is the size of the vocabulary, 0 for images."""
    axis_name = AXIS if config.parallel == "pmap" else None
    model = model_of(
        config.model, classes=spec.classes, axis_name=axis_name, vocabulary=words, embedding=config.data.vector_size
    )
    standardise = inputs_of(spec)
    schedule = learning_rate(config.optimizer, epochs=config.epochs, steps_per_epoch=steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, schedule)
    if config.method.adapt_classes:
        optimizer = with_classes(optimizer, spec.classes)
    train_step = make_train_step(
        model,
        optimizer,
        config.method,
        classes=spec.classes,
        standardise=standardise,
        axis_name=axis_name,
        mesh=None if axis_name else mesh,
    )
    if config.on_nan == "skip":
        train_step = skipping(train_step)
    return Parts(model, input_shape(spec, config.data), standardise, optimizer, schedule, train_step)


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array, *, input_shape: tuple[int, ...]
) -> TrainState:
    """Returns the state at step 0; under `jax.eval_shape`, its shapes."""
    variables = init_variables(model, key, input_shape)
    opt_state = optimizer.init(variables["params"])
    return TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], opt_state)
