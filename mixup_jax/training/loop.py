"""A training run, from its config to its last checkpoint."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixup_jax import metrics
from mixup_jax.config import Config, to_dict
from mixup_jax.data.feed import Fed
from mixup_jax.data.load import TrainingData, check_same_data, first_embedding, load_training_data
from mixup_jax.data.sets import ExampleSet
from mixup_jax.devices.mesh import replicate
from mixup_jax.devices.processes import by_first, check_agreement, is_first, wait_for_all
from mixup_jax.escapes import print_line
from mixup_jax.metrics.binning import Bins
from mixup_jax.prediction.predict import Predict, record_of
from mixup_jax.runs import workdir as run_folder
from mixup_jax.runs.workdir import provenance
from mixup_jax.state import TrainState
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.store.verify import check_state, checksum, newest_facts, steps_in
from mixup_jax.training.logs import check_loggers, open_logs
from mixup_jax.training.recorder import Recorder
from mixup_jax.training.step import check_divisible, splits_groups
from mixup_jax.training.stop import Abandoned, Interrupted, Stop, locked
from mixup_jax.training.trainer import Trainer, begun_with, check_config, count_steps, prepare, starting_weights


def train(
    config: Config,
    workdir: Path,
    data_dir: Path,
    report: Callable[[str], None] = print_line,
    stop: Stop | None = None,
) -> None:
    """Trains until the last epoch, continuing from the last checkpoint of `workdir` if it has one.

    Afterwards `workdir` holds config.json, metrics.jsonl, TensorBoard events (if TensorBoard is installed),
    the last checkpoints and the best one on validation.  A finished run is not changed.

    Raises:
      InputError: before anything is written: the config names something unknown or asks for something
        impossible, the data is not prepared, or the folder belongs to another run or is in use.
        Later: a number is not finite, or something cannot be written; the last checkpoint is intact.
      Interrupted: `stop` asked to end; a checkpoint has been saved.
    """
    report, stop = by_first(report), stop or Stop()
    check_loggers(config)
    spec = check_config(config, data_dir, report)
    check_agreement("config", to_dict(config))
    check_divisible(config.batch_size, jax.device_count())
    data = load_training_data(config.data, data_dir, spec)
    steps_per_epoch = count_steps(config, len(data.train))
    check_agreement("data", _data_facts(data))
    run_folder.check(workdir, config)
    checkpoints_folder = workdir / run_folder.CHECKPOINTS
    words = 0 if data.vocabulary is None else len(data.vocabulary)
    weights = None
    # Before the folder is locked, so that a refusal leaves nothing there: config.json may have been lost or replaced.
    if "config" in (facts := newest_facts(checkpoints_folder)):
        run_folder.check_same(facts["config"], config, workdir)
    if config.model.weights and not steps_in(checkpoints_folder):
        weights = starting_weights(config, spec, words, report)
    with (
        locked(workdir, report),
        Checkpoints(checkpoints_folder, keep=config.checkpoint.keep, report=report) as checkpoints,
    ):
        last = checkpoints.last
        before = {} if last is None else checkpoints.restore_facts(last)
        if before:
            run_folder.check_same(before["config"], config, workdir)
            check_same_data(data, before, workdir)
        vocabulary, embedding = data.vocabulary, None
        started = {key: before[key] for key in ("weights",) if key in before}
        if last is not None:
            weights = None
        elif config.model.weights and weights is None:  # all checkpoints are damaged
            weights = starting_weights(config, spec, words, report)
        if weights is not None:
            started = {"weights": checksum(weights)}
        _write_config(workdir, config)
        if last == config.epochs * steps_per_epoch and _validated(before):
            report(f"{workdir}: already trained ({last} steps)")
            return
        if vocabulary is not None:
            embedding = first_embedding(config.data, vocabulary, data_dir, config.seed)
        trainer, state = prepare(config, spec, steps_per_epoch, vocabulary, embedding)
        if weights is not None:
            state = begun_with(state, weights, trainer.mesh)
        for line in _headlines(trainer, state, data):
            report(line)
        if last is not None:
            report(f"continuing after step {last} of {trainer.total_steps}")
            state = checkpoints.restore_state(last, state, trainer.mesh)
        step, lines = int(state.step), before.get("metrics_lines")
        with (
            contextlib.closing(trainer.batches(data.train, step)) as batches,
            open_logs(config, workdir, last_step=step, lines=lines, report=report) as logs,
        ):
            report("compiling the training step; the first progress line comes after it")
            recorder = Recorder(trainer, checkpoints, logs, workdir, {**data.facts, **started}, before)
            # A state at the end of an epoch belongs to that epoch until it is validated.
            first_epoch = (step if _validated(before) else step - 1) // steps_per_epoch
            if step == 0:
                _record_epoch(trainer, state, data.validation, 0, recorder)
            for epoch in range(first_epoch, config.epochs):
                state = _train_epoch(trainer, state, batches, epoch, recorder, stop)
                state = _end_epoch(trainer, state, data.validation, epoch + 1, recorder, stop)
    report(f"{workdir}: trained {trainer.total_steps} steps")


def _data_facts(data: TrainingData) -> list[Any]:
    """Returns facts that differ if two processes read different examples: source, number and bytes."""
    facts: list[Any] = [data.train.source, len(data.train), len(data.validation), data.own_data]
    if jax.process_count() > 1:
        facts.append(checksum(data.train.in_memory))
    return facts


def _write_config(workdir: Path, config: Config) -> None:
    """Writes the config in the first process; the other processes must then find it."""
    if is_first():
        run_folder.write_config(workdir, config)
    wait_for_all("config written")
    run_folder.check_shared(workdir)


def _validated(facts: Mapping[str, Any]) -> bool:
    """Returns whether a checkpoint was saved after a validation; older checkpoints, without scores, always were."""
    return bool(facts.get("scores", True))


def _headlines(trainer: Trainer, state: TrainState, data: TrainingData) -> list[str]:
    """Returns the lines that describe a run before it begins."""
    config, devices = trainer.config, jax.device_count()
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    lines = [
        f"{config.experiment or config.data.name} seed {config.seed}: {config.model.label} "
        f"({parameters:,} parameters), {len(data.train):,} training and {len(data.validation):,} validation examples, "
        f"{config.epochs} epochs of {trainer.steps_per_epoch} steps, batch {config.batch_size}, "
        f"{devices} {jax.devices()[0].platform} device(s) by {config.parallel}{processes}"
    ]
    if splits_groups(config.batch_size, config.method, devices):
        share = config.batch_size // devices
        lines.append(
            f"mixing groups of {config.method.group(config.batch_size)} examples are spread over devices of {share} "
            f"each, which exchange examples at every step; a --config.method.group_size that divides {share} would "
            "need no exchange, but is another method (docs/distributed.md)"
        )
    return lines


def _train_epoch(
    trainer: Trainer, state: TrainState, batches: Fed, epoch: int, recorder: Recorder, stop: Stop
) -> TrainState:
    """Takes the remaining steps of an epoch: all, or those after the checkpoint that the run resumed from."""
    every, end = trainer.config.checkpoint.every_steps, (epoch + 1) * trainer.steps_per_epoch
    for step in range(int(state.step) + 1, end + 1):
        try:
            fed = next(batches)
        except Exception:
            if stop.pending:  # the signal reached the data workers too, and ended them
                raise _interrupted(trainer, state, recorder) from None
            raise
        state, step_metrics = trainer.step(state, *fed)
        recorder.recent.add(step, step_metrics)
        if stop.requested(step):
            raise _interrupted(trainer, state, recorder)
        if every and step % every == 0 and step < end:
            recorder.save(state)
    recorder.recent.finish(end)
    return state


def _end_epoch(
    trainer: Trainer, state: TrainState, validation: ExampleSet, epoch: int, recorder: Recorder, stop: Stop
) -> TrainState:
    """Validates and saves the state after an epoch (counted from 1), if the config asks for it; returns the state."""
    _record_epoch(trainer, state, validation, epoch, recorder)
    if epoch % trainer.config.evaluation.every_epochs and epoch != trainer.config.epochs:
        return state
    check_state(state, int(state.step))
    try:
        with stop.abandonable():
            scores, bins = validate(trainer.predict, state, validation, trainer.config.evaluation.best)
            state = _adapted(trainer, state, validation)
    except Abandoned:
        raise _interrupted(trainer, state, recorder) from None
    recorder.save_validated(state, scores, bins)
    return state


def _adapted(trainer: Trainer, state: TrainState, validation: ExampleSet) -> TrainState:
    """Returns the state in which those classes are mixed whose validation examples it is over-confident on."""
    if not trainer.config.method.adapt_classes:
        return state
    logits, labels = trainer.predict(state.variables, validation.inputs), validation.labels
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    gaps = np.bincount(labels, confidence - correct, minlength=trainer.spec.classes)
    mixed = replicate(trainer.mesh, jnp.asarray(gaps >= 0, jnp.float32))
    return state._replace(opt_state=state.opt_state._replace(mixed=mixed))


def _record_epoch(trainer: Trainer, state: TrainState, validation: ExampleSet, epoch: int, recorder: Recorder) -> None:
    """Writes the validation logits after an epoch, if the config asks for them; epoch 0 is before training."""
    config = trainer.config
    if epoch in config.evaluation.record_epochs:
        meta = {"epoch": epoch, "step": int(state.step), "seed": config.seed, "config": to_dict(config), **provenance()}
        logits = trainer.predict(state.variables, validation.inputs)
        recorder.keep_epoch(epoch, record_of(logits, "validation", validation, trainer.spec, meta))


def validate(
    predict: Predict, state: TrainState, validation: ExampleSet, best: str = "accuracy"
) -> tuple[dict[str, float], Bins]:
    """Returns the scores of a validation, and its 15 bins of confidence.

    The scores are accuracy, top-5 accuracy for more than 5 classes, NLL (nats), ECE-15, OE-15 and mean confidence, and
    the refinement (nats) if checkpoints are ranked by it.
    """
    logits, labels = predict(state.variables, validation.inputs), validation.labels
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    bins = metrics.bin_confidences(confidence, correct, n_bins=15)
    scores = {
        "validation_accuracy": float(np.mean(correct)),
        "validation_nll": metrics.nll(logits, labels),
        "validation_ece_15": metrics.ece(bins),
        "validation_oe_15": metrics.oe(bins),
        "validation_confidence": float(np.mean(confidence)),
    }
    if logits.shape[1] > 5:
        scores["validation_accuracy_top5"] = metrics.top_k_accuracy(logits, labels, 5)
    if best == "refinement":
        temperature = metrics.fit_temperature(logits, labels)
        scores["validation_refinement"] = metrics.nll(metrics.scale(logits, temperature), labels)
    return scores, bins


def _interrupted(trainer: Trainer, state: TrainState, recorder: Recorder) -> Interrupted:
    """Saves the state, and returns the exception that says so."""
    recorder.save(state)
    return Interrupted(
        f"interrupted after step {int(state.step)} of {trainer.total_steps}, which is saved; the same command continues"
    )
