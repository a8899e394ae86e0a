"""What the training step is fed with: examples that stay on the device, or batches that arrive in time."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy.typing as npt
from jax.sharding import Mesh

from mixup_jax.config import Config
from mixup_jax.data.cache import Arrays
from mixup_jax.data.resident import Resident, epoch_order
from mixup_jax.data.stream import AnySet, TrainingBatches, ahead
from mixup_jax.devices.mesh import by_rows, process_rows, replicate

Fed = Generator[tuple[Any, ...], None, None]
"""What a compiled step takes besides the state, step by step."""


class Feed(Protocol):
    """Where the steps of a run get their examples."""

    def batches(self, first_step: int) -> Fed:
        """Yields what the compiled step takes besides the state, for step `first_step` (from 0) and those after it.

        A function of the config and the step alone, so that a run goes on from any step.  Closing the
        iterator ends what it has started.
        """


@dataclass(frozen=True)
class ResidentFeed:
    """All examples on every device, and the order of the epoch.

    Attributes:
      resident: the examples.
      key: of the orders.
      mesh: of the devices.
      steps_per_epoch: whole batches in an epoch.
    """

    resident: Resident
    key: jax.Array
    mesh: Mesh
    steps_per_epoch: int

    def batches(self, first_step: int) -> Fed:
        """Yields `(resident, order)`; ends never."""
        first_epoch, done = divmod(first_step, self.steps_per_epoch)
        for epoch in itertools.count(first_epoch):
            order = replicate(self.mesh, epoch_order(self.key, epoch, len(self.resident.labels)))
            for _ in range(done, self.steps_per_epoch):
                yield self.resident, order
            done = 0


@dataclass(frozen=True)
class StreamedFeed:
    """Batches that this process's workers make; the devices get the next one while they compute.

    Attributes:
      made: this process's part of every batch, by step.
      mesh: of the devices of all processes.
      parallel: "jit" or "pmap".
      workers: processes.
    """

    made: TrainingBatches
    mesh: Mesh
    parallel: str
    workers: int

    def batches(self, first_step: int) -> Fed:
        """Yields `(images, labels)`, over the devices; ends with the run."""
        waiting = None
        with closing(ahead(self.made, self.workers, first_step)) as made:
            for images, labels in made:
                # Its transfer begins before the step that comes first is handed over.
                last, waiting = waiting, (self._place(images), self._place(labels))
                if last is not None:
                    yield last
            if waiting is not None:
                yield waiting

    def _place(self, rows: npt.NDArray[Any]) -> jax.Array:
        """Returns the global array of which this process has these rows; pmap wants an axis of devices."""
        if self.parallel == "pmap":
            rows = rows.reshape(self.mesh.local_mesh.devices.size, -1, *rows.shape[1:])
        return jax.make_array_from_process_local_data(by_rows(self.mesh), rows)


def make_feed(config: Config, train: AnySet, order_key: jax.Array, mesh: Mesh) -> Feed:
    """Returns the feed of a run.

    Args:
      config: of the run.
      train: the training examples.
      order_key: of the orders of resident examples; those of streamed ones are drawn from the seed.
      mesh: of the devices.
    """
    if isinstance(train, Arrays):
        resident = Resident(*replicate(mesh, (train.inputs, train.labels)))
        return ResidentFeed(resident, order_key, mesh, len(train.labels) // config.batch_size)
    rows = process_rows(mesh, config.batch_size)
    made = TrainingBatches(train.inputs, config.seed, config.batch_size, config.epochs, rows)
    return StreamedFeed(made, mesh, config.parallel, config.data.workers)
