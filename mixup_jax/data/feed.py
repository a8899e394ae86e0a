"""The batches of training steps: gathered from examples on the devices, or made on the host ahead of time.

The two feeds have the same methods.  On the host, `fed` yields the arguments of the compiled step for `first_step`
(from 0) and the following.  They depend only on the config and the number of the step, so that a run can resume at any
step.  Closing the iterator ends its worker processes.

Within the compiled step, `batch` returns this device's part of the augmented batch of a step, given what `fed` yielded.
Random numbers are drawn for the global batch; `share` maps them to those of this device.

`shapes` returns the shapes and shardings of what `fed` yields, given the shape and the number of the examples.
"""

import itertools
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixup_jax.config import Config
from mixup_jax.data.augment import augment_batch
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.data.stream import StreamedImages, TrainingBatches, ahead
from mixup_jax.devices.mesh import AXIS, by_rows, process_rows, replicate
from mixup_jax.state import Batch

Fed = Generator[tuple[Any, ...], None, None]
"""Iterator of the arguments of a compiled step other than the state and the keys."""
Share = Callable[[Any], Any]
"""Maps arrays with a row for each example of the global batch to the rows of this device."""


class Resident(NamedTuple):
    """All training examples, on the devices.

    Attributes:
      inputs: images uint8 `[N, H, W, C]`, or tokens int32 `[N, L]`.
      labels: int32 `[N]`.
    """

    inputs: jax.Array
    labels: jax.Array


@dataclass(frozen=True)
class ResidentFeed:
    """Feeds a copy of all examples on every device, and the order of the epoch.

    Attributes:
      device_axis: the axis of devices in the fed arrays under pmap; None if every device gets the same arrays.
      resident: whether all training examples are kept on the devices.
    """

    config: Config
    device_axis: int | None = None
    resident: bool = True

    def fed(self, train: ExampleSet, key: jax.Array, mesh: Mesh, first_step: int) -> Fed:
        """Yields `(examples, order)` without end."""
        examples = Resident(*replicate(mesh, (train.inputs, train.labels)))
        steps_per_epoch = len(train) // self.config.batch_size
        first_epoch, done = divmod(first_step, steps_per_epoch)
        for epoch in itertools.count(first_epoch):
            order = replicate(mesh, epoch_order(key, epoch, len(train)))
            for _ in range(done, steps_per_epoch):
                yield examples, order
            done = 0

    def batch(self, fed: tuple[Any, ...], step: jax.Array, key: jax.Array, share: Share) -> Batch:
        """Gathers the rows of the step, and augments them as the config says."""
        examples, order = fed
        batch = gather_batch(examples, share(batch_rows(order, step, self.config.batch_size)))
        images = augment_batch(batch.inputs, self.config.data, key, self.config.batch_size, share)
        return batch._replace(inputs=images)

    def shapes(self, example: jax.ShapeDtypeStruct, examples: int, mesh: Mesh) -> tuple[Any, ...]:
        """Returns the shapes of `(examples, order)`."""
        sharding = None if self.config.parallel == "pmap" else NamedSharding(mesh, PartitionSpec())
        labels = jax.ShapeDtypeStruct((examples,), jnp.int32, sharding=sharding)
        inputs = jax.ShapeDtypeStruct((examples, *example.shape), example.dtype, sharding=sharding)
        return Resident(inputs, labels), labels  # type: ignore[arg-type]  # shapes in the place of arrays


@dataclass(frozen=True)
class StreamedFeed:
    """Feeds batches made by this process's workers; each is transferred while the devices compute the step before."""

    config: Config
    device_axis: int | None = 0
    resident: bool = False

    def fed(self, train: ExampleSet, key: jax.Array, mesh: Mesh, first_step: int) -> Fed:
        """Yields `(images, labels)`, sharded over the devices, until the end of the run.

        Images that are not cut at random come in the order of `ResidentFeed`, so that a run does not depend on whether
        its images fit in memory.
        """
        config, waiting, whole = self.config, None, train.inputs
        assert isinstance(whole, StreamedImages)

        @lru_cache(maxsize=2)
        def order(epoch: int) -> npt.NDArray[Any]:
            return np.asarray(epoch_order(key, epoch, len(train)))

        cuts = config.data.crop == "random_resized"
        batches = TrainingBatches(
            whole.originals if cuts else whole,
            config.seed,
            config.batch_size,
            config.epochs,
            process_rows(mesh, config.batch_size),
            order=None if cuts else order,
        )
        workers = config.data.workers if cuts else whole.workers
        with closing(ahead(batches, workers, first_step)) as made:
            for images, labels in made:
                # Start the transfer of the next batch before yielding the current one.
                last, waiting = waiting, (self._place(images, mesh), self._place(labels, mesh))
                if last is not None:
                    yield last
            if waiting is not None:
                yield waiting

    def _place(self, rows: npt.NDArray[Any], mesh: Mesh) -> jax.Array:
        """Returns the global array of which this process has these rows; under pmap it has an axis of devices."""
        if self.config.parallel == "pmap":
            rows = rows.reshape(mesh.local_mesh.devices.size, -1, *rows.shape[1:])
        return jax.make_array_from_process_local_data(by_rows(mesh), rows)

    def batch(self, fed: tuple[Any, ...], step: jax.Array, key: jax.Array, share: Share) -> Batch:
        """Augments the images as the config says; those that are cut at random were cut on the host."""
        images, labels = fed
        images = augment_batch(images, self.config.data, key, self.config.batch_size, share)
        return Batch(images, labels, jnp.ones(labels.shape, jnp.float32))

    def shapes(self, example: jax.ShapeDtypeStruct, examples: int, mesh: Mesh) -> tuple[Any, ...]:
        """Returns the shapes of `(images, labels)`; the number of examples does not matter."""
        batch, devices = self.config.batch_size, mesh.devices.size
        pmap = self.config.parallel == "pmap"
        sharding = None if pmap else NamedSharding(mesh, PartitionSpec(AXIS))
        rows = (devices, batch // devices) if pmap else (batch,)
        images = jax.ShapeDtypeStruct((*rows, *example.shape), example.dtype, sharding=sharding)
        return images, jax.ShapeDtypeStruct(rows, jnp.int32, sharding=sharding)


Feed = ResidentFeed | StreamedFeed


def feed_of(config: Config, spec: DatasetSpec) -> Feed:
    """Returns the feed for a data set; only this function distinguishes streamed sets from others."""
    return StreamedFeed(config) if spec.streams else ResidentFeed(config)


def epoch_order(key: jax.Array, epoch: int, examples: int) -> jax.Array:
    """Returns the order in which an epoch (counted from 0) visits the examples: int32 `[examples]`.

    It depends only on (key, epoch), so there is no shuffle state to save.
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), examples)


def batch_rows(order: jax.Array, step: jax.Array, batch_size: int) -> jax.Array:
    """Returns the positions of the examples of a step: int32 `[batch_size]`.

    The last examples of an epoch's order that do not fill a batch are left out of that epoch; the next
    epoch leaves out others.
    """
    position = step % (order.shape[0] // batch_size)
    return jax.lax.dynamic_slice_in_dim(order, position * batch_size, batch_size)


def gather_batch(resident: Resident, rows: jax.Array) -> Batch:
    """Returns the batch of the given rows, every example with weight 1."""
    return Batch(resident.inputs[rows], resident.labels[rows], jnp.ones(rows.shape, jnp.float32))
