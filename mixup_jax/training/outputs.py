"""What a run leaves behind while it trains: lines of metrics, and checkpoints that agree with them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixup_jax.devices.processes import is_first
from mixup_jax.progress import Progress
from mixup_jax.runs.records import Predictions, save_predictions
from mixup_jax.runs.workdir import EPOCHS
from mixup_jax.state import TrainState
from mixup_jax.store.checkpoint import Checkpoints
from mixup_jax.training.logs import MetricsLog


@dataclass(frozen=True)
class Outputs:
    """What a run leaves behind while it trains; of several processes all save, and the first alone writes the rest.

    Attributes:
      checkpoints: of its folder.
      logs: of its metrics; none but in the first process.
      progress: the line for a waiting person.
      facts: what every checkpoint says about the run.
      start: when it would have begun on the monotonic clock, had it never been interrupted.
      workdir: its folder.
    """

    checkpoints: Checkpoints
    logs: list[MetricsLog]
    progress: Progress
    facts: dict[str, Any]
    start: float
    workdir: Path

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes a line of metrics."""
        for log in self.logs:
            log.write(step, scalars)

    def show(self, step: int, scalars: Mapping[str, float], *, important: bool = False) -> None:
        """Shows the line of progress, as `Progress.update` says."""
        if is_first():
            self.progress.update(step, scalars, important=important)

    def save(self, state: TrainState, scores: Mapping[str, float], recent: Sequence[Mapping[str, float]] = ()) -> None:
        """Saves a checkpoint, after everything that it makes final is on disk.

        Args:
          state: after any step.
          scores: of its validation; empty for a state that is not validated, or not yet.
          recent: metrics of the steps that no line tells of.
        """
        now = {
            "training_seconds": time.monotonic() - self.start,
            "scores": dict(scores),
            "recent": list(recent),
            "metrics_lines": sum(log.sync() for log in self.logs),
        }
        self.checkpoints.save(state, self.facts | now, scores)

    def keep_epoch(self, epoch: int, record: Predictions) -> None:
        """Keeps the validation logits after an epoch, counted from 1; 0 is before training."""
        if not is_first():
            return
        path = self.workdir / EPOCHS / f"{epoch}.npz"
        path.parent.mkdir(exist_ok=True)
        save_predictions(path, record)
