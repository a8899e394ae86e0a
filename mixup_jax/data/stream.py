"""Sets that do not fit in memory: worker processes read, decode and crop their batches ahead of time.

The order of an epoch depends on (seed, epoch) only, and a crop on (seed, epoch, example) only.  So a batch can be made
from the number of its step: a run can resume at any step, and its result does not depend on the number of training
processes or of workers.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mixup_jax.data.images import TRIES, cut, decode, open_upright
from mixup_jax.data.sets import DatasetSpec, ExampleSet, Labels, check_labels, permutation, raw_bits
from mixup_jax.data.sources import tfds as tfds_source
from mixup_jax.errors import InputError

LABELS_AT_ONCE = 512
THREADS = 2
"""Threads that make batches when there are no worker processes."""

# Added to the seed, so that the draws of orders and of crops are independent.
_ORDER, _CROP = 1, 2

Batch = TypeVar("Batch", covariant=True)
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Records:
    """One split of a set that tensorflow-datasets built as array_record; each process opens it when it first reads."""

    spec: DatasetSpec
    split: str
    data_dir: Path

    @cached_property
    def _source(self) -> Any:
        return tfds_source.open_split(self.spec, self.split, self.data_dir)

    def __getstate__(self) -> dict[str, Any]:
        return {"spec": self.spec, "split": self.split, "data_dir": self.data_dir}

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Sequence[int]) -> tuple[list[bytes], Labels]:
        """Returns the image files and labels of some records, in this order."""
        examples = self._source.__getitems__(list(rows))
        labels = np.array([example[self.spec.label] for example in examples], np.int32)
        if len(labels):
            check_labels(self.spec, self.split, labels)
        return [example["image"] for example in examples], labels

    def decode(self, file: bytes, size: int, draw: npt.NDArray[np.float64] | None) -> Images:
        """Decodes an image and cuts it."""
        return decode(file, size, draw)

    def crops(
        self, rows: Sequence[int], size: int, draws: Sequence[npt.NDArray[np.float64] | None]
    ) -> tuple[Images, Labels]:
        """Returns the images of some records, cut by `images.decode` with these draws, and their labels."""
        files, labels = self.read(rows)
        images = np.empty((len(files), size, size, 3), np.uint8)
        for image, file, row, draw in zip(images, files, rows, draws, strict=True):
            try:
                image[:] = self.decode(file, size, draw)
            except Exception as error:  # Pillow may raise any exception here
                raise InputError(
                    f"image {row} of {self.spec.name}/{self.split} in {self.data_dir} cannot be decoded "
                    f"({type(error).__name__}: {error}); expected the set as tensorflow-datasets builds it: build it"
                ) from error
        return images, labels


@dataclass(frozen=True)
class FileRecords(Records):
    """One split of a user's own set of image files."""

    files: tuple[str, ...] = ()
    labels: Labels = field(default_factory=lambda: np.empty(0, np.int32))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: Sequence[int]) -> tuple[list[bytes], Labels]:
        """Returns the files and labels of these rows."""
        return [Path(self.files[row]).read_bytes() for row in rows], self.labels[list(rows)]

    def decode(self, file: bytes, size: int, draw: npt.NDArray[np.float64] | None) -> Images:
        """Decodes an image as `images.open_upright` does and cuts it."""
        return cut(open_upright(file).convert("RGB"), size, draw)


class Indexed(Protocol[Batch]):
    """Batches by number; each is made when it is accessed."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Batch: ...


@dataclass(frozen=True)
class CentreCrops:
    """Centre crops of photographs for evaluation; indexed like an array `[N, size, size, 3]`, decoded when accessed.

    Attributes:
      rows: the chosen records, int64 `[N]`.
      workers: the number of processes that decode for `batches`.
    """

    records: Records
    rows: npt.NDArray[np.int64]
    size: int
    workers: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, some: slice | npt.NDArray[Any]) -> Images:
        """Returns the images at these positions, uint8 `[n, size, size, 3]`."""
        rows = self.rows[some].tolist()
        return self.records.crops(rows, self.size, [None] * len(rows))[0]

    def batches(self, batch_size: int, rows: npt.NDArray[np.int64]) -> Iterator[Images]:
        """Yields these rows of every batch, in order; the last batch may have fewer."""
        return ahead(_Pieces(self, batch_size, rows), self.workers)

    def part(self, rows: npt.NDArray[np.int64]) -> CentreCrops:
        """Returns the images at these positions, without decoding them."""
        return replace(self, rows=self.rows[rows])

    def read_labels(self) -> Labels:
        """Returns the class of each image, int32 `[N]`; reads all records, which takes time."""
        rows = self.rows.tolist()
        parts = [self.records.read(rows[at : at + LABELS_AT_ONCE])[1] for at in range(0, len(rows), LABELS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of a whole run by the number of the step, from 0: images uint8 `[n, size, size, 3]`, labels `[n]`.

    An epoch leaves out the last examples of its order that do not fill a batch.

    Attributes:
      images: the training images; they are cropped at random, not in the centre.
      seed: of order and crops.
      batch_size: B, over all processes.
      epochs: of the run.
      rows: the n rows of a batch that this process feeds.
    """

    images: CentreCrops
    seed: int
    batch_size: int
    epochs: int
    rows: range | npt.NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return self.epochs * (len(self.images) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Images, Labels]:
        """Returns this process's rows of the batch of a step."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch, position = divmod(step, len(self.images) // self.batch_size)
        order = epoch_order(self.seed, epoch, len(self.images))
        examples = order[position * self.batch_size + np.asarray(self.rows)]
        draws = [crop_draws(self.seed, epoch, example) for example in examples.tolist()]
        return self.images.records.crops(self.images.rows[examples].tolist(), self.images.size, draws)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, examples: int) -> npt.NDArray[np.int64]:
    """Returns the order in which an epoch (counted from 0) visits the examples: int64 `[examples]`."""
    return permutation(examples, (seed, _ORDER, epoch))


def crop_draws(seed: int, epoch: int, example: int) -> npt.NDArray[np.float64]:
    """Returns the uniform draws in [0, 1) of an example's crop in an epoch, `[TRIES, 4]`."""
    bits = raw_bits(4 * TRIES, (seed, _CROP, epoch, example))
    return (bits >> np.uint64(11)).astype(np.float64).reshape(TRIES, 4) * 2.0**-53


def ahead(batches: Indexed[Batch], workers: int, first: int = 0) -> Generator[Batch, None, None]:
    """Yields batches `first`, first + 1, .. in order, made ahead of their use.

    `batches` is pickled for the worker processes; without workers, threads of this process make the batches.
    """
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, which keep their defaults
    threads = 1 if workers else THREADS
    pipeline = (
        grain.MapDataset.source(batches)
        .slice(slice(first, None))
        .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
        .mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
            worker_init_fn=_live_as_long_as_parent if workers else None,
        )
    )
    iterator = iter(pipeline)
    try:
        yield from iterator
    finally:
        iterator.close()


def _live_as_long_as_parent(worker: int, workers: int) -> None:
    """Makes this worker ignore signals, and end when its parent process ends.

    Ctrl-C, and SIGTERM from a cluster, go to all processes of a job, but the parent needs its workers until it has
    saved.  A parent that is killed cannot end its workers, so they watch it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


@dataclass(frozen=True)
class _Pieces:
    """Some rows of every batch, by the number of the batch."""

    images: CentreCrops
    batch_size: int
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, number: int) -> Images:
        positions = number * self.batch_size + self.rows
        return self.images[positions[positions < len(self.images)]]


def require_grain(name: str) -> None:
    """Raises InputError if Grain, which a streamed set needs, is not installed."""
    if importlib.util.find_spec("grain") is None:
        raise InputError(f'reading {name} needs Grain, which is not installed; run: pip install "mixup_jax[stream]"')


def open_streamed(spec: DatasetSpec, split: str, data_dir: Path, size: int, workers: int) -> ExampleSet:
    """Returns a whole split of a set that tensorflow-datasets built."""
    require_grain(spec.name)
    records = Records(spec, split, data_dir)
    images = CentreCrops(records, np.arange(len(records)), size, workers)
    return ExampleSet(images, None, tfds_source.source_of(spec, data_dir))
