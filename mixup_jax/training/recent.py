"""The metrics of the steps since the last line of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mixup_jax.training.step import Metrics

Write = Callable[[int, Sequence[Mapping[str, Any]]], None]
"""Takes a number of steps, and the metrics of the last of them, on the host."""


class Recent:
    """Collects the metrics of steps, and hands them over every so many steps and at the end of an epoch.

    They are fetched from the device only when the next step is under way, so that it never waits.
    """

    def __init__(self, every: int, write: Write, saved: Sequence[Mapping[str, float]] = ()) -> None:
        """Starts empty, or with what `settle` returned when the run was interrupted.

        Args:
          every: a line is due after each multiple of so many steps.
          write: takes the metrics of a line.
          saved: what `settle` returned.
        """
        self._every, self._write = every, write
        self._steps: list[Any] = [{name: np.float32(value) for name, value in one.items()} for one in saved]
        self._due: tuple[int, list[Any]] | None = None

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of the step that made it `step` steps."""
        self._steps.append(metrics)
        self._write_due()
        if step % self._every == 0:
            self._due, self._steps = (step, self._steps), []

    def finish(self, step: int) -> None:
        """Hands over everything; to be called at the end of an epoch, after `step` steps."""
        self._write_due()
        if self._steps:
            self._due, self._steps = (step, self._steps), []
            self._write_due()

    def settle(self) -> list[dict[str, float]]:
        """Hands over what is due, and returns the rest for a checkpoint: JSON-serialisable, and exact."""
        self._write_due()
        return [{name: float(value) for name, value in one.items()} for one in jax.device_get(self._steps)]

    def _write_due(self) -> None:
        if self._due is not None:
            step, steps = self._due
            self._due = None
            self._write(step, jax.device_get(steps))


def means(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of each metric over the steps, as `train_` and its name.

    Where steps were skipped (`training.finite.skipping`), `train_skipped` is their number and the means are over the
    others; without others there are none.
    """
    # A run that is continued with another `on_nan` has steps of both kinds in its first line.
    taken = [one for one in steps if not one.get("skipped", 0)]
    names = sorted(set(steps[0]) - {"skipped"}) if taken else []
    counted = {"train_skipped": float(len(steps) - len(taken))} if "skipped" in steps[-1] else {}
    return {f"train_{name}": _mean(taken, name) for name in names} | counted


def _mean(steps: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([one[name] for one in steps]))
