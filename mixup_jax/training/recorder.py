"""Writes the results of a run while it trains: metrics, progress, checkpoints and validation records."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixup_jax.config import Config, to_dict
from mixup_jax.devices.processes import is_first
from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import Bins
from mixup_jax.progress import Progress
from mixup_jax.runs.records import Predictions, save_predictions
from mixup_jax.runs.workdir import EPOCHS, provenance
from mixup_jax.state import TrainState
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.training.logs import MetricsLog
from mixup_jax.training.step import Metrics
from mixup_jax.training.trainer import Trainer


class Recorder:
    """Writes the results of a run.  All processes save checkpoints together; only the first writes the other files."""

    def __init__(
        self,
        trainer: Trainer,
        checkpoints: Checkpoints,
        logs: Sequence[MetricsLog],
        workdir: Path,
        data_facts: Mapping[str, Any],
        before: Mapping[str, Any],
    ) -> None:
        """Starts to record.

        `data_facts` identify the data (`TrainingData.facts`); `before` are the facts of the checkpoint that the run
        resumes from, empty for a new run.
        """
        self._trainer, self._checkpoints, self._logs = trainer, checkpoints, logs
        self._workdir = workdir
        self.recent = Recent(
            trainer.config.log_every_steps, self._write_training, before.get("recent", ()), self._estimated
        )
        self._facts = {"config": to_dict(trainer.config), "total_steps": trainer.total_steps, **provenance()}
        self._facts |= data_facts
        self._progress = Progress(
            total_steps=trainer.total_steps,
            steps_per_epoch=trainer.steps_per_epoch,
            batch_size=trainer.config.batch_size,
        )
        # The start on the monotonic clock, as if the run had never been interrupted.
        self._start = time.monotonic() - float(before.get("training_seconds", 0.0))

    def save(self, state: TrainState) -> None:
        """Saves a state that was not validated, with the metrics of the steps since the last line."""
        rest = self.recent.settle()
        check_losses(self._trainer.config, [one["loss"] for one in rest], int(state.step))
        self._save(state, {}, rest)

    def save_validated(self, state: TrainState, scores: Mapping[str, float], bins: Bins) -> None:
        """Writes and shows the scores of a validation at the end of an epoch, and saves the state."""
        step = int(state.step)
        self._write(step, scores)
        for log in self._logs:
            log.write_reliability(step, bins)
        self._save(state, scores, [])
        self._show(step, {name: scores[name] for name in ("validation_accuracy", "validation_ece_15")}, important=True)

    def keep_epoch(self, epoch: int, record: Predictions) -> None:
        """Writes the validation logits after an epoch, counted from 1; 0 is before training."""
        if is_first():
            path = self._workdir / EPOCHS / f"{epoch}.npz"
            path.parent.mkdir(exist_ok=True)
            save_predictions(path, record)

    def _write_training(self, step: int, steps: Sequence[Mapping[str, Any]]) -> None:
        """Writes the means over the last steps."""
        check_losses(self._trainer.config, [one["loss"] for one in steps], step)
        scalars = means(steps)
        self._write(step, {**scalars, "learning_rate": float(self._trainer.schedule(step - 1))})
        self._show(step, {name: scalars[name] for name in ("train_loss",) if name in scalars})

    def _estimated(self, step: int) -> bool:
        return not is_first() or self._progress.estimated(step)

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        epoch = -(-step // self._trainer.steps_per_epoch)
        for log in self._logs:
            log.write(step, {"epoch": epoch, **scalars})

    def _save(self, state: TrainState, scores: Mapping[str, float], recent: list[dict[str, float]]) -> None:
        """Saves a checkpoint, after the logs up to it are on disk."""
        now = {
            "training_seconds": time.monotonic() - self._start,
            "scores": dict(scores),
            "recent": recent,
            "metrics_lines": sum(log.sync() for log in self._logs),
        }
        self._checkpoints.save(state, {**self._facts, **now}, scores)

    def _show(self, step: int, scalars: Mapping[str, float], *, important: bool = False) -> None:
        if is_first():
            self._progress.update(step, scalars, important=important)


class Recent:
    """Collects the metrics of steps, and writes them every `every` steps and at the end of an epoch.

    They are fetched from the device only after the next step has been dispatched, so that the device never waits.
    """

    def __init__(
        self,
        every: int,
        write: Callable[[int, Sequence[Mapping[str, Any]]], None],
        saved: Sequence[Mapping[str, float]] = (),
        estimated: Callable[[int], bool] = lambda step: True,
    ) -> None:
        """Starts empty, or with what `settle` returned when the run was interrupted.

        `write` takes a number of steps and the metrics of the last of them, on the host.  `estimated` is called when a
        step is done, until it returns True: only so long does `add` wait for the device.
        """
        self._every, self._write, self._estimated = every, write, estimated
        self._waits = True
        self._steps: list[Any] = [{name: np.float32(value) for name, value in one.items()} for one in saved]
        self._due: tuple[int, list[Any]] | None = None

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of step `step`, counted from 1."""
        self._steps.append(metrics)
        if self._waits:
            jax.block_until_ready(metrics)
            self._waits = not self._estimated(step)
        self._write_due()
        if step % self._every == 0:
            self._due, self._steps = (step, self._steps), []

    def finish(self, step: int) -> None:
        """Writes all collected metrics; called at the end of an epoch, after `step` steps."""
        self._write_due()
        if self._steps:
            self._due, self._steps = (step, self._steps), []
            self._write_due()

    def settle(self) -> list[dict[str, float]]:
        """Writes the lines that are due; returns the other metrics for a checkpoint, JSON-serialisable and exact."""
        self._write_due()
        return [{name: float(value) for name, value in one.items()} for one in jax.device_get(self._steps)]

    def _write_due(self) -> None:
        if self._due is not None:
            step, steps = self._due
            self._due = None
            self._write(step, jax.device_get(steps))


def means(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of each metric over the steps, under `train_` and its name.

    If steps can be skipped (`training.step.skipping`), `train_skipped` is their number and the means are over the
    other steps; if all were skipped, there are no means.
    """
    # A run resumed with another `on_nan` has steps with and without `skipped` in its first line.
    taken = [one for one in steps if not one.get("skipped", 0)]
    names = sorted(set(steps[0]) - {"skipped"}) if taken else []
    counted = {"train_skipped": float(len(steps) - len(taken))} if "skipped" in steps[-1] else {}
    return {f"train_{name}": float(np.mean([one[name] for one in taken])) for name in names} | counted


def check_losses(config: Config, losses: Sequence[Any], last_step: int) -> None:
    """Raises InputError if the loss of a step is not finite; the last of these steps is number `last_step`."""
    finite = np.isfinite(np.asarray(losses, np.float64))
    if finite.all():
        return
    index = int(np.argmin(finite))
    raise InputError(
        f"the loss is {float(losses[index])} at step {last_step - len(losses) + 1 + index}; checkpoints that were "
        f"saved before are intact. Suspects: optimizer.learning_rate {config.optimizer.learning_rate:g} (lower it, or "
        f"raise optimizer.warmup_epochs), model.dtype {config.model.dtype}, the data {config.data.name}; or pass over "
        "such steps with --config.on_nan=skip"
    )
