"""The fixed parts of a run, built of its config: step, prediction, schedule, first state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import optax
from jax.sharding import Mesh

from mixup_jax.config import Config
from mixup_jax.data.augment import check_augmentation, input_shape, inputs_of
from mixup_jax.data.catalog import check_ood_name, training_spec
from mixup_jax.data.feed import Feed, feed_of
from mixup_jax.data.load import TrainingData, first_embedding
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.text import Vocabulary
from mixup_jax.devices.mesh import AXIS, device_mesh, replicate
from mixup_jax.errors import InputError
from mixup_jax.models import check_model, model_of
from mixup_jax.prediction.predict import Predict, make_predict, plain
from mixup_jax.state import RunKeys, TrainState, run_keys
from mixup_jax.training.optimizer import learning_rate, make_optimizer
from mixup_jax.training.parallel import make_step
from mixup_jax.training.state import create_state, with_embedding
from mixup_jax.training.step import Metrics, TrainStep, make_train_step, skipping

FedStep = Callable[..., tuple[TrainState, Metrics]]
"""Takes the state and what the feed yields, and returns the next state and its metrics."""


@dataclass(frozen=True)
class Run:
    """The fixed parts of a run; only the state changes.

    Attributes:
      config: of the run.
      step: the compiled training step; takes the state and what the feed yields.
      feed: makes the batches.
      predict: the compiled prediction.
      schedule: learning rate by step.
      keys: random keys by purpose.
      mesh: of the devices.
      steps_per_epoch: whole batches in an epoch.
    """

    config: Config
    step: FedStep
    feed: Feed
    predict: Predict
    schedule: optax.Schedule
    keys: RunKeys
    mesh: Mesh
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch


def check_names(config: Config) -> DatasetSpec:
    """Returns the catalogue's entry of the training set; raises InputError for any unknown name."""
    spec = training_spec(config.data.name)
    check_model(config.model, task=spec.task)
    config.method.check_task(spec.task)
    check_augmentation(config.data, spec)
    for name in config.evaluation.ood:
        check_ood_name(name, spec)
    return spec


def prepare(
    config: Config, spec: DatasetSpec, steps_per_epoch: int, vocabulary: Vocabulary | None = None
) -> tuple[Run, TrainState]:
    """Builds the compiled parts of a run and its state at step 0; text needs its vocabulary."""
    mesh, keys = device_mesh(), run_keys(config.seed)
    parts = parts_of(config, spec, mesh, steps_per_epoch, 0 if vocabulary is None else len(vocabulary))
    feed, step_keys = feed_of(config, spec), replicate(mesh, (keys.augment, keys.step))
    step = make_step(parts.train_step, feed, mesh, parallel=config.parallel)
    predict = make_predict(plain(parts.model, inputs_of(spec)), mesh, batch_size=config.evaluation.batch_size)
    state = create_state(parts.model, parts.optimizer, keys.init, input_shape(spec, config.data))

    def fed_step(state: TrainState, *fed: Any) -> tuple[TrainState, Metrics]:
        return step(state, *fed, step_keys)

    return Run(config, fed_step, feed, predict, parts.schedule, keys, mesh, steps_per_epoch), replicate(mesh, state)


class Parts(NamedTuple):
    """What a run computes with, before anything is compiled or placed on a device."""

    model: nn.Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train_step: TrainStep


def parts_of(config: Config, spec: DatasetSpec, mesh: Mesh, steps_per_epoch: int, words: int) -> Parts:
    """Returns the parts of a run; `words` is the size of a text's vocabulary, 0 for images."""
    axis_name = AXIS if config.parallel == "pmap" else None
    model = model_of(
        config.model, classes=spec.classes, axis_name=axis_name, vocabulary=words, embedding=config.data.vector_size
    )
    schedule = learning_rate(config.optimizer, epochs=config.epochs, steps_per_epoch=steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, schedule)
    train_step = make_train_step(
        model,
        optimizer,
        config.method,
        classes=spec.classes,
        standardise=inputs_of(spec),
        axis_name=axis_name,
        mesh=None if axis_name else mesh,
    )
    return Parts(model, optimizer, schedule, skipping(train_step) if config.on_nan == "skip" else train_step)


def count_steps(config: Config, examples: int) -> int:
    """Returns the whole batches of an epoch; raises InputError where there is none."""
    if config.batch_size > examples:
        raise InputError(
            f"batch_size is {config.batch_size}, larger than the {examples} training examples; "
            f"expected at most {examples}"
        )
    return examples // config.batch_size


def with_vectors(state: TrainState, run: Run, examples: TrainingData, data_dir: Path) -> TrainState:
    """Returns the first state with the config's word vectors, if it names any."""
    if examples.vocabulary is None:
        return state
    table = first_embedding(run.config.data, examples.vocabulary, data_dir, run.config.seed)
    return state if table is None else replicate(run.mesh, with_embedding(state, table))
