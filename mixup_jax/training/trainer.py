"""Builds a run from its config: the compiled training step, the compiled prediction and the initial state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.sharding import Mesh

from mixup_jax.config import Config, OptimizerConfig
from mixup_jax.data.augment import check_augmentation, input_shape, inputs_of
from mixup_jax.data.catalog import check_ood_name
from mixup_jax.data.feed import Fed, Feed, feed_of
from mixup_jax.data.load import run_spec
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.data.text import Vocabulary
from mixup_jax.devices.mesh import AXIS, device_mesh, replicate
from mixup_jax.errors import InputError, local_path
from mixup_jax.escapes import print_line
from mixup_jax.libraries import fast_to_compile
from mixup_jax.models import check_model, init_variables, model_of, shapes_of
from mixup_jax.models.own import check_contract, is_own
from mixup_jax.prediction.predict import Predict, make_predict, plain
from mixup_jax.state import RunKeys, TrainState, run_keys
from mixup_jax.store.weights import fitted, from_torch, read_run, read_weights
from mixup_jax.training.optimizer import (
    average_of,
    check_layers,
    learning_rate,
    logged_rate,
    make_optimizer,
    with_classes,
    without_frozen,
)
from mixup_jax.training.step import Metrics, TrainStep, make_step, make_train_step, skipping

OWN_VOCABULARY = 100
"""The number of words with which a network from outside of the package is tried before the texts are read."""


class Parts(NamedTuple):
    """The parts of a run, before anything is compiled or placed on a device.

    Attributes:
      input_shape: of one input: `(H, W, C)` of an image, `(L,)` of the tokens of a text.
      standardise: maps pixels to the network's inputs; the identity for text.
      train_step: for all devices together, or under pmap for one device.
      averaged: whether the state has a moving average of the variables.
    """

    model: nn.Module
    input_shape: tuple[int, ...]
    standardise: Callable[[jax.Array], jax.Array]
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train_step: TrainStep
    averaged: bool = False

    def initial_state(self, key: jax.Array) -> TrainState:
        """Returns the state at step 0, with parameters drawn from a key."""
        state = initial_state(self.model, self.optimizer, key, input_shape=self.input_shape)
        return state._replace(average=jax.tree.map(jnp.copy, state.trained)) if self.averaged else state


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
    _check_recipe(config)
    if is_own(config.model.name) or config.optimizer.freeze or config.optimizer.backbone_rate != 1:
        _check_network(config, spec)
    config.method.check_task(spec.task)
    check_augmentation(config.data, spec)
    for name in config.evaluation.ood:
        check_ood_name(name, spec)
    return spec


def _check_recipe(config: Config) -> None:
    """Raises InputError for numbers that would have no effect, or none that is meant, together."""
    optimizer, model, default = config.optimizer, config.model, OptimizerConfig()
    for key in ("momentum", "nesterov") if optimizer.name != "sgd" else ():
        value, expected = getattr(optimizer, key), getattr(default, key)
        if value != expected:
            raise InputError(f"optimizer.{key} is {value}; expected {expected}: it is of sgd, not of {optimizer.name}")
    if not model.weights and (optimizer.freeze or model.norm == "running"):
        raise InputError(
            f"optimizer.freeze is {optimizer.freeze} and model.norm {model.norm!r}, but the network begins with random "
            "weights; expected model.weights, or () and 'batch'"
        )


def _check_network(config: Config, spec: DatasetSpec) -> None:
    """Raises InputError unless a network has what the config asks of it; one from outside keeps to the contract too."""
    name, text, embedding = config.model.name, spec.task == "text", config.data.vector_size
    model = model_of(
        config.model, classes=spec.classes, vocabulary=OWN_VOCABULARY if text else 0, embedding=embedding if text else 0
    )
    example = jax.ShapeDtypeStruct(input_shape(spec, config.data), jnp.int32 if text else jnp.float32)
    if is_own(name):
        hidden, mapped = config.method.layer == "random", config.parallel == "pmap"
        check_contract(name, model, example, spec.classes, hidden=hidden, mapped=mapped)
    params = shapes_of(model, example.shape)["params"]
    check_layers(config.optimizer, params, name)
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
    steps, together = examples // config.batch_size, config.optimizer.accumulate
    if together > steps * config.epochs:
        raise InputError(
            f"optimizer.accumulate is {together}, more than the {steps * config.epochs} batches of the whole run; "
            f"expected at most {steps * config.epochs}"
        )
    return steps


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
        state = _beginning(state, {**state.trained, "params": {**state.params, "embedding": {"embedding": embedding}}})

    def step(state: TrainState, *fed: Any) -> tuple[TrainState, Metrics]:
        return mapped(state, *fed, step_keys)

    trainer = Trainer(config, spec, step, feed, predict, parts.schedule, keys, mesh, steps_per_epoch)
    return trainer, replicate(mesh, state)


def starting_weights(
    config: Config, spec: DatasetSpec, words: int, report: Callable[[str], None]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the arrays with which a network begins, by their paths; without the head if that is new.

    `words` is the size of the vocabulary, 0 for images; `report` takes a line for what is not taken as it is.  Raises
    InputError for what cannot be read, or is not of this network.
    """
    source = config.model.weights
    model = model_of(config.model, classes=spec.classes, vocabulary=words, embedding=config.data.vector_size)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(shapes_of(model, input_shape(spec, config.data)))[0]
    }
    path = local_path(source)
    if path.is_dir():
        weights, padding = read_run(path, report)
    else:
        weights, padding = from_torch(read_weights(path), source), "torch"
    if config.model.padding != padding:
        raise InputError(
            f"model.padding is {config.model.padding!r}; expected {padding!r}, with which {source} was trained"
        )
    taken, lines = fitted(weights, shapes, source)
    for line in lines:
        report(line)
    return taken


def begun_with(state: TrainState, weights: Mapping[str, npt.NDArray[np.float32]], mesh: Mesh) -> TrainState:
    """Returns the state at step 0 with the given weights, by their paths, in the place of its own."""
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: weights.get(jax.tree_util.keystr(path, simple=True, separator="/"), leaf), state.trained
    )
    return replicate(mesh, _beginning(state, variables))


def _beginning(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """Returns the state at step 0 with other variables."""
    # Copies, because the step donates its state, which may not hold one array twice.
    copies = [jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), variables) for _ in range(2)]
    return state._replace(**copies[0], average=None if state.average is None else copies[1])


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
        average=partial(average_of, config.optimizer) if config.optimizer.ema else None,
        running_statistics=config.model.norm == "running",
        frozen=partial(without_frozen, config.optimizer),
    )
    if config.on_nan == "skip":
        train_step = skipping(train_step)
    shown = logged_rate(config.optimizer, schedule)
    averaged = bool(config.optimizer.ema)
    return Parts(model, input_shape(spec, config.data), standardise, optimizer, shown, train_step, averaged)


def initial_state(
    model: nn.Module, optimizer: optax.GradientTransformation, key: jax.Array, *, input_shape: tuple[int, ...]
) -> TrainState:
    """Returns the state at step 0; under `jax.eval_shape`, its shapes."""
    variables = init_variables(model, key, input_shape)
    opt_state = optimizer.init(variables["params"])
    return TrainState(jnp.zeros((), jnp.int32), variables["params"], variables["batch_stats"], opt_state)
