"""The story of a training run: data, state, steps, validation, checkpoints."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixup_jax import metrics
from mixup_jax.config import Config, to_dict
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.feed import Fed
from mixup_jax.data.load import TrainingData, check_vocabulary, load_training_data
from mixup_jax.devices.processes import by_first, check_agreement, is_first, wait_for_all
from mixup_jax.metrics.calibration import Bins
from mixup_jax.prediction.predict import Predict, record_of
from mixup_jax.progress import Progress
from mixup_jax.runs import workdir as folder
from mixup_jax.runs.provenance import provenance
from mixup_jax.state import TrainState
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.store.verify import check_state, checksum
from mixup_jax.training.finite import check_losses
from mixup_jax.training.logs import MetricsLog, open_logs
from mixup_jax.training.outputs import Outputs
from mixup_jax.training.parallel import check_divisible, splits_groups
from mixup_jax.training.recent import Recent, means
from mixup_jax.training.run import Run, check_names, count_steps, prepare, with_vectors
from mixup_jax.training.state import parameter_count
from mixup_jax.training.stop import Abandoned, Interrupted, Stop, locked

Report = Callable[[str], None]


def train(config: Config, workdir: Path, data_dir: Path, report: Report = print, stop: Stop | None = None) -> None:
    """Trains until the last epoch, continuing from the last checkpoint of `workdir` if it has one.

    Afterwards `workdir` holds config.json, metrics.jsonl, TensorBoard events where installed, and
    checkpoints of the last epochs and of the one with the best validation accuracy.  A finished run is
    left as it is.

    Args:
      config: of the run.
      workdir: its folder; made if missing.
      data_dir: where data is prepared.
      report: takes lines for a person.
      stop: asked after every step whether to end early.

    Raises:
      InputError: the config names something unknown or asks for something impossible, the data is
        not prepared, or the folder belongs to another run or is in use; nothing has been written by then.
        Later: a number is not finite, or something cannot be written; the last checkpoint is good.
      Interrupted: `stop` asked for it; a checkpoint is saved.
    """
    report = by_first(report)
    spec = check_names(config)
    check_agreement("config", to_dict(config))
    check_divisible(config.batch_size, config.method, jax.device_count(), config.parallel)
    examples = load_training_data(config.data, data_dir)
    steps_per_epoch = count_steps(config, len(examples.train.inputs))
    check_agreement("data", _data_facts(examples))
    folder.check(workdir, config)
    with _locked(workdir, report), _open_checkpoints(workdir, config, report) as checkpoints:
        facts = {} if checkpoints.last is None else checkpoints.restore_facts(checkpoints.last)
        if facts:
            # What was trained decides, and not config.json, which may have been lost or replaced.
            folder.check_same(facts["config"], config, workdir)
            check_vocabulary(examples.vocabulary, facts, workdir)
        _write_config(workdir, config)
        if checkpoints.last == config.epochs * steps_per_epoch and _validated(facts):
            report(f"{workdir}: already trained ({checkpoints.last} steps)")
            return
        run, state = prepare(config, spec, steps_per_epoch, examples.vocabulary)
        state = with_vectors(state, run, examples, data_dir)
        report(_headline(config, run, state, examples))
        if splits_groups(config.batch_size, config.method, jax.device_count()):
            report(_split_groups(config))
        state = _continued(state, checkpoints, run, report)
        batches = run.feed.fed(examples.train, run.keys.order, run.mesh, int(state.step))
        with (
            contextlib.closing(batches),
            _open_logs(workdir, int(state.step), facts.get("metrics_lines"), config.tensorboard, report) as logs,
        ):
            report("compiling the training step; the first progress line comes after it")
            outputs = _outputs(run, checkpoints, logs, facts, examples, workdir)
            _train_epochs(run, state, facts, examples, batches, outputs, stop or Stop())
    report(f"{workdir}: trained {run.total_steps} steps")


def _data_facts(examples: TrainingData) -> list[Any]:
    """Returns what tells one machine's examples from another's: where they are from, how many, and their bytes."""
    facts: list[Any] = [examples.train.source, len(examples.train.inputs), len(examples.validation.inputs)]
    if jax.process_count() > 1:
        facts.append(checksum(examples.train.in_memory))
    return facts


def _locked(workdir: Path, report: Report) -> contextlib.AbstractContextManager[None]:
    """Holds the folder's lock; of several processes the first does."""
    return locked(workdir, report) if is_first() else contextlib.nullcontext()


def _write_config(workdir: Path, config: Config) -> None:
    """Writes the config; of several processes the first does, and the others must find it."""
    if is_first():
        folder.write_config(workdir, config)
    wait_for_all("config written")
    folder.check_shared(workdir)


def _open_logs(
    workdir: Path, last_step: int, lines: int | None, tensorboard: bool, report: Report
) -> contextlib.AbstractContextManager[list[MetricsLog]]:
    """Opens the logs; none in all processes but the first."""
    if not is_first():
        return contextlib.nullcontext([])
    return open_logs(workdir, last_step=last_step, lines=lines, tensorboard=tensorboard, report=report)


def _open_checkpoints(workdir: Path, config: Config, report: Report) -> Checkpoints:
    return Checkpoints(workdir / folder.CHECKPOINTS, keep=config.checkpoint.keep, report=report)


def _validated(facts: Mapping[str, Any]) -> bool:
    """Returns whether a checkpoint was saved after a validation; older ones, that have no scores, always were."""
    return bool(facts.get("scores", True))


def _continued(state: TrainState, checkpoints: Checkpoints, run: Run, report: Report) -> TrainState:
    if checkpoints.last is None:
        return state
    report(f"continuing after step {checkpoints.last} of {run.total_steps}")
    return checkpoints.restore_state(checkpoints.last, state, run.mesh)


def _outputs(
    run: Run,
    checkpoints: Checkpoints,
    logs: list[MetricsLog],
    before: Mapping[str, Any],
    examples: TrainingData,
    workdir: Path,
) -> Outputs:
    """Returns where results go, for a run that `before` is known of from its last checkpoint."""
    progress = Progress(
        total_steps=run.total_steps, steps_per_epoch=run.steps_per_epoch, batch_size=run.config.batch_size
    )
    facts = {"config": to_dict(run.config), "total_steps": run.total_steps, **provenance()}
    if examples.vocabulary is not None:
        facts["vocabulary"] = examples.vocabulary.fingerprint
    start = time.monotonic() - float(before.get("training_seconds", 0.0))
    return Outputs(checkpoints, logs, progress, facts, start, workdir)


def _train_epochs(
    run: Run,
    state: TrainState,
    before: Mapping[str, Any],
    examples: TrainingData,
    batches: Fed,
    outputs: Outputs,
    stop: Stop,
) -> None:
    recent = Recent(run.config.log_every_steps, partial(_log_training, run, outputs), before.get("recent", ()))
    # A state at the end of an epoch that was not validated yet still belongs to that epoch.
    step = int(state.step) - (0 if _validated(before) else 1)
    if step == 0:
        _record(run, state, examples, 0, outputs)
    for epoch in range(step // run.steps_per_epoch, run.config.epochs):
        state = _train_epoch(run, state, batches, epoch, recent, outputs, stop)
        _record(run, state, examples, epoch + 1, outputs)
        if (epoch + 1) % run.config.evaluation.every_epochs == 0 or epoch + 1 == run.config.epochs:
            _validate_and_save(run, state, epoch, examples, outputs, stop)


def _record(run: Run, state: TrainState, examples: TrainingData, epoch: int, outputs: Outputs) -> None:
    """Keeps the validation logits after an epoch, if they are asked for."""
    if epoch not in run.config.evaluation.record_epochs:
        return
    validation = examples.validation
    meta = {"epoch": epoch, "step": int(state.step), "seed": run.config.seed, "config": to_dict(run.config)}
    logits, spec = run.predict(state.variables, validation.inputs), dataset_spec(run.config.data.name)
    outputs.keep_epoch(epoch, record_of(logits, "validation", validation, spec, meta | provenance()))


def _train_epoch(
    run: Run, state: TrainState, batches: Fed, epoch: int, recent: Recent, outputs: Outputs, stop: Stop
) -> TrainState:
    """Takes the steps of one epoch that are left: all, or those after the checkpoint that the run goes on from."""
    every, end = run.config.checkpoint.every_steps, (epoch + 1) * run.steps_per_epoch
    for step in range(int(state.step) + 1, end + 1):
        try:
            fed = next(batches)
        except Exception:
            if stop.pending:  # the signal that asked to end went to the processes that feed this one, too
                raise _interrupted(run, state, recent, outputs) from None
            raise
        state, step_metrics = run.step(state, *fed)
        recent.add(step, step_metrics)
        if stop.requested(step):
            raise _interrupted(run, state, recent, outputs)
        if every and step % every == 0 and step < end:
            _save_within(run, state, recent, outputs)
    recent.finish(end)
    return state


def _validate_and_save(
    run: Run, state: TrainState, epoch: int, examples: TrainingData, outputs: Outputs, stop: Stop
) -> None:
    step = int(state.step)
    check_state(state, step)
    try:
        with stop.abandonable():
            scores, bins = validate(run.predict, state, examples)
    except Abandoned:
        outputs.save(state, {})
        raise Interrupted(_where(run, step)) from None
    outputs.write(step, {"epoch": epoch + 1, **scores})
    for log in outputs.logs:
        log.write_reliability(step, bins)
    outputs.save(state, scores)
    shown = {name: scores[name] for name in ("validation_accuracy", "validation_ece_15")}
    outputs.show(step, shown, important=True)


def _interrupted(run: Run, state: TrainState, recent: Recent, outputs: Outputs) -> Interrupted:
    _save_within(run, state, recent, outputs)
    return Interrupted(_where(run, int(state.step)))


def _save_within(run: Run, state: TrainState, recent: Recent, outputs: Outputs) -> None:
    """Saves a state within an epoch, with what the steps since the last line of the log measured."""
    rest = recent.settle()
    check_losses(run.config, [one["loss"] for one in rest], int(state.step))
    outputs.save(state, {}, rest)


def _where(run: Run, step: int) -> str:
    return f"interrupted after step {step} of {run.total_steps}, which is saved; the same command continues"


def _log_training(run: Run, outputs: Outputs, step: int, steps: Sequence[Mapping[str, Any]]) -> None:
    """Writes the means over the last steps."""
    check_losses(run.config, [one["loss"] for one in steps], step)
    scalars, epoch = means(steps), -(-step // run.steps_per_epoch)
    outputs.write(step, {"epoch": epoch, **scalars, "learning_rate": float(run.schedule(step - 1))})
    outputs.show(step, {name: scalars[name] for name in ("train_loss",) if name in scalars})


def validate(predict: Predict, state: TrainState, examples: TrainingData) -> tuple[dict[str, float], Bins]:
    """Returns accuracy (top 5 too, of more classes), NLL (nats), ECE-15, OE-15 and mean confidence; and 15 bins."""
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
    if logits.shape[1] > 5:
        scores["validation_accuracy_top5"] = metrics.top_k_accuracy(logits, labels, 5)
    return scores, bins


def _split_groups(config: Config) -> str:
    share = config.batch_size // jax.device_count()
    return (
        f"mixing groups of {config.method.group(config.batch_size)} examples are spread over devices of {share} each, "
        "which exchange examples at every step; a --config.method.group_size that divides "
        f"{share} would need no exchange, but is another method (docs/distributed.md)"
    )


def _headline(config: Config, run: Run, state: TrainState, examples: TrainingData) -> str:
    return (
        f"{config.experiment or config.data.name} seed {config.seed}: {config.model.name} width {config.model.width} "
        f"({parameter_count(state):,} parameters), {len(examples.train.inputs):,} training and "
        f"{len(examples.validation.inputs):,} validation examples, {config.epochs} epochs of {run.steps_per_epoch} "
        f"steps, batch {config.batch_size}, "
        f"{jax.device_count()} {jax.devices()[0].platform} device(s) by {config.parallel}"
        + (f", {jax.process_count()} processes" if jax.process_count() > 1 else "")
    )
