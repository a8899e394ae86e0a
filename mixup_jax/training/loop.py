"""The story of a training run: data, state, steps, validation, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from mixup_jax import metrics
from mixup_jax.config import Config, to_dict
from mixup_jax.data.catalog import DatasetSpec, check_ood_name, training_spec
from mixup_jax.data.examples import Examples, check_vocabulary, first_embedding, load_examples
from mixup_jax.data.inputs import check_augmentation, input_shape, inputs_of
from mixup_jax.data.resident import Resident, epoch_order
from mixup_jax.data.tokens import Vocabulary
from mixup_jax.errors import InputError
from mixup_jax.evaluation.predict import Predict, make_predict, network_of
from mixup_jax.metrics.calibration import Bins
from mixup_jax.models import check_model, model_of
from mixup_jax.provenance import provenance
from mixup_jax.records import Predictions, TrainState, save_predictions
from mixup_jax.training import workdir as folder
from mixup_jax.training.checkpoint import Checkpoints
from mixup_jax.training.metrics_log import MetricsLog, open_logs
from mixup_jax.training.optimizer import make_optimizer
from mixup_jax.training.parallel import AXIS, ResidentStep, check_divisible, device_mesh, make_resident_step, replicate
from mixup_jax.training.progress import Progress
from mixup_jax.training.schedule import learning_rate
from mixup_jax.training.state import RunKeys, create_state, parameter_count, run_keys, with_embedding
from mixup_jax.training.step import Metrics, make_train_step

Report = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """The fixed parts of a run; only the state changes.

    Attributes:
      config: of the run.
      step: the compiled training step.
      predict: the compiled prediction.
      schedule: learning rate by step.
      keys: random keys by purpose.
      mesh: of the devices.
      steps_per_epoch: whole batches in an epoch.
    """

    config: Config
    step: ResidentStep
    predict: Predict
    schedule: optax.Schedule
    keys: RunKeys
    mesh: Mesh
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch


def train(config: Config, workdir: Path, data_dir: Path, report: Report = print) -> None:
    """Trains until the last epoch, continuing from the last checkpoint of `workdir` if it has one.

    Afterwards `workdir` holds config.json, metrics.jsonl, TensorBoard events where installed, and
    checkpoints of the last epoch and of the one with the best validation accuracy.  A finished run is
    left as it is.

    Raises:
      InputError: the config names something unknown or asks for something impossible, the data is
        not prepared, or the folder belongs to another run.  Nothing has been written by then.
    """
    spec = check_names(config)
    check_divisible(config.batch_size, config.method, jax.device_count(), config.parallel)
    examples = load_examples(config.data, data_dir)
    steps_per_epoch = _steps_per_epoch(config, len(examples.train.labels))
    folder.check(workdir, config)
    with Checkpoints(workdir / folder.CHECKPOINTS) as checkpoints:
        if checkpoints.last is not None:
            # What was trained decides, and not config.json, which may have been lost or replaced.
            facts = checkpoints.restore_facts(checkpoints.last)
            folder.check_same(facts["config"], config, workdir)
            check_vocabulary(examples.vocabulary, facts, workdir)
        folder.write_config(workdir, config)
        if checkpoints.last == config.epochs * steps_per_epoch:
            report(f"{workdir}: already trained ({checkpoints.last} steps)")
            return
        run, state = prepare(config, spec, steps_per_epoch, examples.vocabulary)
        state = with_vectors(state, run, examples, data_dir)
        report(_headline(config, run, state, examples))
        state = _continued(state, checkpoints, run, report)
        with open_logs(workdir, last_step=int(state.step), tensorboard=config.tensorboard, report=report) as logs:
            report("compiling the training step; the first progress line comes after it")
            _train_epochs(run, state, examples, checkpoints, logs, workdir)
    report(f"{workdir}: trained {run.total_steps} steps")


def check_names(config: Config) -> DatasetSpec:
    """Returns the catalogue's entry of the training set; raises InputError for any unknown name."""
    spec = training_spec(config.data.name)
    check_model(config.model, task=spec.task)
    check_augmentation(config.data, spec)
    for name in config.evaluation.ood:
        check_ood_name(name, spec)
    return spec


def prepare(
    config: Config, spec: DatasetSpec, steps_per_epoch: int, vocabulary: Vocabulary | None = None
) -> tuple[Run, TrainState]:
    """Builds the compiled parts of a run and its state at step 0; text needs its vocabulary."""
    mesh, keys = device_mesh(), run_keys(config.seed)
    axis_name = AXIS if config.parallel == "pmap" else None
    words = 0 if vocabulary is None else len(vocabulary)
    model = model_of(
        config.model, classes=spec.classes, axis_name=axis_name, vocabulary=words, embedding=config.data.vector_size
    )
    schedule = learning_rate(config.optimizer, epochs=config.epochs, steps_per_epoch=steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, schedule)
    step = make_resident_step(
        make_train_step(
            model, optimizer, config.method, classes=spec.classes, standardise=inputs_of(spec), axis_name=axis_name
        ),
        mesh,
        parallel=config.parallel,
        batch_size=config.batch_size,
        padding=config.data.crop_padding,
        flip=config.data.flip,
        rotation=config.data.rotation,
        augment_key=keys.augment,
        step_key=keys.step,
    )
    predict = make_predict(network_of(model), inputs_of(spec), mesh, batch_size=config.evaluation.batch_size)
    state = create_state(model, optimizer, keys.init, input_shape(spec, config.data))
    return Run(config, step, predict, schedule, keys, mesh, steps_per_epoch), replicate(mesh, state)


def _steps_per_epoch(config: Config, examples: int) -> int:
    if config.batch_size > examples:
        raise InputError(
            f"batch_size is {config.batch_size}, larger than the {examples} training examples; "
            f"expected at most {examples}"
        )
    return examples // config.batch_size


def with_vectors(state: TrainState, run: Run, examples: Examples, data_dir: Path) -> TrainState:
    """Returns the first state with the config's word vectors, if it names any."""
    if examples.vocabulary is None:
        return state
    table = first_embedding(run.config.data, examples.vocabulary, data_dir, run.config.seed)
    return state if table is None else replicate(run.mesh, with_embedding(state, table))


def _continued(state: TrainState, checkpoints: Checkpoints, run: Run, report: Report) -> TrainState:
    if checkpoints.last is None:
        return state
    report(f"continuing after step {checkpoints.last} of {run.total_steps}")
    return checkpoints.restore_state(checkpoints.last, state, run.mesh)


def _train_epochs(
    run: Run,
    state: TrainState,
    examples: Examples,
    checkpoints: Checkpoints,
    logs: list[MetricsLog],
    workdir: Path,
) -> None:
    resident = Resident(*replicate(run.mesh, (examples.train.inputs, examples.train.labels)))
    progress = Progress(
        total_steps=run.total_steps, steps_per_epoch=run.steps_per_epoch, batch_size=run.config.batch_size
    )
    facts = {"config": to_dict(run.config), "total_steps": run.total_steps, **provenance()}
    if examples.vocabulary is not None:
        facts["vocabulary"] = examples.vocabulary.fingerprint
    start = time.monotonic() - _seconds_before(checkpoints)
    every = run.config.evaluation.every_epochs
    if int(state.step) == 0:
        _record(run, state, examples, 0, workdir)
    for epoch in range(int(state.step) // run.steps_per_epoch, run.config.epochs):
        state = _train_epoch(run, state, resident, epoch, logs, progress)
        _record(run, state, examples, epoch + 1, workdir)
        if (epoch + 1) % every == 0 or epoch + 1 == run.config.epochs:
            scores, bins = validate(run.predict, state, examples)
            _write(logs, int(state.step), {"epoch": epoch + 1, **scores})
            for log in logs:
                log.write_reliability(int(state.step), bins)
            checkpoints.save(state, facts | {"training_seconds": time.monotonic() - start}, scores)
            shown = {name: scores[name] for name in ("validation_accuracy", "validation_ece_15")}
            progress.update(int(state.step), shown, important=True)


def _record(run: Run, state: TrainState, examples: Examples, epoch: int, workdir: Path) -> None:
    """Keeps the validation logits after an epoch, if they are asked for."""
    if epoch not in run.config.evaluation.record_epochs:
        return
    validation = examples.validation
    origin = {"dataset": run.config.data.name, "split": "validation", "source": validation.source}
    meta = origin | {"epoch": epoch, "step": int(state.step), "seed": run.config.seed, "config": to_dict(run.config)}
    record = Predictions(run.predict(state.variables, validation.inputs), validation.labels, meta | provenance())
    path = workdir / folder.EPOCHS / f"{epoch}.npz"
    path.parent.mkdir(exist_ok=True)
    save_predictions(path, record)


def _seconds_before(checkpoints: Checkpoints) -> float:
    """Returns how long a run that is continued has trained before."""
    if checkpoints.last is None:
        return 0.0
    return float(checkpoints.restore_facts(checkpoints.last).get("training_seconds", 0.0))


def _train_epoch(
    run: Run, state: TrainState, resident: Resident, epoch: int, logs: list[MetricsLog], progress: Progress
) -> TrainState:
    """Takes the steps of one epoch, from its start: checkpoints are saved between epochs only."""
    order = replicate(run.mesh, epoch_order(run.keys.order, epoch, len(resident.labels)))
    first = epoch * run.steps_per_epoch
    since_log: list[Metrics] = []
    due: tuple[int, list[Metrics]] | None = None
    for step in range(first, first + run.steps_per_epoch):
        state, step_metrics = run.step(state, resident, order)
        since_log.append(step_metrics)
        # Metrics are fetched after the next step is under way, so that the device never waits.
        if due is not None:
            _log_training(run, epoch, due, logs, progress)
            due = None
        if (step + 1) % run.config.log_every_steps == 0:
            due, since_log = (step + 1, since_log), []
    last = due or (first + run.steps_per_epoch, since_log)
    if last[1]:
        _log_training(run, epoch, last, logs, progress)
    return state


def _log_training(
    run: Run, epoch: int, recent: tuple[int, list[Metrics]], logs: list[MetricsLog], progress: Progress
) -> None:
    """Writes the means over the steps since the last time."""
    step, steps = recent
    fetched = jax.device_get(steps)
    scalars = {f"train_{name}": float(np.mean([one[name] for one in fetched])) for name in sorted(fetched[0])}
    _write(logs, step, {"epoch": epoch + 1, **scalars, "learning_rate": float(run.schedule(step - 1))})
    progress.update(step, {"train_loss": scalars["train_loss"]})


def _write(logs: list[MetricsLog], step: int, scalars: Mapping[str, float]) -> None:
    for log in logs:
        log.write(step, scalars)


def validate(predict: Predict, state: TrainState, examples: Examples) -> tuple[dict[str, float], Bins]:
    """Returns accuracy, NLL (nats), ECE-15, OE-15 and mean confidence on the validation examples, and their 15 bins."""
    logits, labels = predict(state.variables, examples.validation.inputs), examples.validation.labels
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    bins = metrics.bin_confidences(confidence, correct, n_bins=15)
    scores = {
        "validation_accuracy": float(np.mean(correct)),
        "validation_nll": metrics.nll(logits, labels),
        "validation_ece_15": metrics.ece(bins),
        "validation_oe_15": metrics.oe(bins),
        "validation_confidence": float(np.mean(confidence)),
    }
    return scores, bins


def _headline(config: Config, run: Run, state: TrainState, examples: Examples) -> str:
    return (
        f"{config.experiment or config.data.name} seed {config.seed}: {config.model.name} width {config.model.width} "
        f"({parameter_count(state):,} parameters), {len(examples.train.labels):,} training and "
        f"{len(examples.validation.labels):,} validation examples, {config.epochs} epochs of {run.steps_per_epoch} "
        f"steps, batch {config.batch_size}, "
        f"{jax.device_count()} {jax.devices()[0].platform} device(s) by {config.parallel}"
    )
