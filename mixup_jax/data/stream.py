"""Sets that do not fit in memory: worker processes or threads make their batches ahead of time.

The order of an epoch depends on (seed, epoch) only, and a crop on (seed, epoch, example) only.  So a batch can be made
from the number of its step: a run can resume at any step, and its result does not depend on the number of training
processes or of workers.
"""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import arrays_folder, kept_files, kept_images
from mixup_jax.data.images import TRIES, cut, decode, fit, open_upright
from mixup_jax.data.sets import DatasetSpec, ExampleSet, Labels, check_labels, permutation, raw_bits
from mixup_jax.data.sources import Blocks
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
    """One split of a set that tensorflow-datasets built as array_record; each process opens it when it first reads.

    `spec.shape` is that to which images are brought.
    """

    spec: DatasetSpec
    split: str
    data_dir: Path

    @cached_property
    def _source(self) -> Any:
        return tfds_source.open_split(self.spec, self.split, self.data_dir)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: Sequence[int]) -> tuple[list[Any], Labels]:
        """Returns the image files and labels of some records, in this order."""
        examples = self._source.__getitems__(list(rows))
        labels = np.array([example[self.spec.label] for example in examples], np.int32)
        if len(labels):
            check_labels(self.spec, self.split, labels)
        return [example["image"] for example in examples], labels

    def decode(self, item: Any, draw: npt.NDArray[np.float64] | None) -> Images:
        """Decodes an image and cuts it; without a draw, as evaluation sees it."""
        return decode(item, self.spec.shape[0], draw)

    def called(self, row: int) -> tuple[str, str]:
        """Returns what a message calls a record, and what it should be."""
        return (
            f"image {row} of {self.spec.name}/{self.split} in {self.data_dir}",
            "the set as tensorflow-datasets builds it: build it",
        )

    def crops(self, rows: Sequence[int], draws: Sequence[npt.NDArray[np.float64] | None]) -> tuple[Images, Labels]:
        """Returns the images of some records, uint8 `[n, H, W, C]`, decoded with these draws, and their labels."""
        images = np.empty((len(rows), *self.spec.shape), np.uint8)
        items, labels = self.read(rows)
        for image, item, row, draw in zip(images, items, rows, draws, strict=True):
            try:
                image[:] = self.decode(item, draw)
            except Exception as error:  # Pillow may raise any exception here
                name, expected = self.called(row)
                raise InputError(
                    f"{name} cannot be decoded ({type(error).__name__}: {error}); expected {expected}"
                ) from error
        return images, labels

    @property
    def originals(self) -> Records:
        """The records out of which rectangles are cut."""
        return self


@dataclass(frozen=True)
class FileRecords(Records):
    """The image files of one split of a user's own set."""

    files: tuple[str, ...] = ()
    labels: Labels = field(default_factory=lambda: np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, rows: Sequence[int]) -> tuple[list[Any], Labels]:
        """Returns the paths and labels of these rows."""
        return [Path(self.files[row]) for row in rows], self.labels[list(rows)]

    def decode(self, item: Any, draw: npt.NDArray[np.float64] | None) -> Images:
        """Decodes an image as `images.open_upright` does; without a draw it is brought to its shape by `images.fit`."""
        picture = open_upright(item)
        return fit(picture, self.spec.shape) if draw is None else cut(picture, self.spec.shape, draw)

    def called(self, row: int) -> tuple[str, str]:
        """Returns the path of an image."""
        return self.files[row], "a whole image: repair or delete it"


@dataclass(frozen=True)
class KeptRecords(FileRecords):
    """The pixels of one split of a user's own set, as `cache` keeps them.

    Attributes:
      path: of the array of images.
      start: the place of its first pixel in the file, in bytes.
    """

    path: Path = Path()
    start: int = 0

    @cached_property
    def _pixels(self) -> Blocks:
        sizes = np.full(len(self), math.prod(self.spec.shape))
        return Blocks(self.path.open("rb"), self.start + np.cumsum(sizes) - sizes, sizes, self.spec.shape)

    def read(self, rows: Sequence[int]) -> tuple[list[Any], Labels]:
        """Returns the rows and their labels."""
        return list(rows), self.labels[list(rows)]

    def decode(self, item: Any, draw: npt.NDArray[np.float64] | None) -> Images:
        """Returns the pixels of a row as they are, or cuts them."""
        pixels: Any = self._pixels[item]
        return pixels if draw is None else super().decode(pixels, draw)

    def called(self, row: int) -> tuple[str, str]:
        """Returns the number of an image in the file."""
        return f"image {row} of {self.path}", "the file as it was written: delete its folder"

    @property
    def originals(self) -> Records:
        """The image files, where there are any, else the pixels."""
        files = kept_files(self.path.parent, self.split)
        return FileRecords(self.spec, self.split, self.data_dir, files, self.labels) if files else self


class Indexed(Protocol[Batch]):
    """Batches by number; each is made when it is accessed."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Batch: ...


@dataclass(frozen=True)
class StreamedImages:
    """Images as evaluation sees them; indexed like an array `[N, H, W, C]`, read when accessed.

    Attributes:
      rows: the chosen records, int64 `[N]`.
      workers: the number of processes that read and decode for `batches`; 0 for threads.
    """

    records: Records
    rows: npt.NDArray[np.int64]
    workers: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, some: slice | npt.NDArray[Any]) -> Images:
        """Returns the images at these positions, uint8 `[n, H, W, C]`."""
        rows = self.rows[some].tolist()
        return self.records.crops(rows, [None] * len(rows))[0]

    def batches(self, batch_size: int, rows: npt.NDArray[np.int64]) -> Iterator[Images]:
        """Yields these rows of every batch, in order; the last batch may have fewer."""
        return ahead(_Pieces(self, batch_size, rows), self.workers)

    def part(self, rows: npt.NDArray[np.int64]) -> StreamedImages:
        """Returns the images at these positions, without reading them."""
        return replace(self, rows=self.rows[rows])

    @property
    def originals(self) -> StreamedImages:
        """The images out of which rectangles are cut."""
        return replace(self, records=self.records.originals)

    def read_labels(self) -> Labels:
        """Returns the class of each image, int32 `[N]`; reads all records, which takes time."""
        rows = self.rows.tolist()
        parts = [self.records.read(rows[at : at + LABELS_AT_ONCE])[1] for at in range(0, len(rows), LABELS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of a whole run by the number of the step, from 0: images uint8 `[n, H, W, C]`, labels `[n]`.

    An epoch leaves out the last examples of its order that do not fill a batch.

    Attributes:
      images: the training images.
      seed: of the order of the epochs, and of rectangles that are cut out of the images at random.
      batch_size: B, over all processes.
      epochs: of the run.
      rows: the n rows of a batch that this process feeds.
      order: returns the order of an epoch, in which images are taken whole, as evaluation sees them.
    """

    images: StreamedImages
    seed: int
    batch_size: int
    epochs: int
    rows: range | npt.NDArray[np.int64] = field(repr=False)
    order: Callable[[int], npt.NDArray[np.integer]] | None = None

    def __len__(self) -> int:
        return self.epochs * (len(self.images) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Images, Labels]:
        """Returns this process's rows of the batch of a step."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch, position = divmod(step, len(self.images) // self.batch_size)
        order = self.order(epoch) if self.order else epoch_order(self.seed, epoch, len(self.images))
        examples = order[position * self.batch_size + np.asarray(self.rows)]
        draws = [None if self.order else crop_draws(self.seed, epoch, example) for example in examples.tolist()]
        return self.images.records.crops(self.images.rows[examples].tolist(), draws)


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

    images: StreamedImages
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


def open_streamed(spec: DatasetSpec, split: str, data_dir: Path, workers: int) -> ExampleSet:
    """Returns a whole split of a set that tensorflow-datasets built; images are brought to `spec.shape`."""
    require_grain(spec.name)
    records = Records(spec, split, data_dir)
    images = StreamedImages(records, np.arange(len(records)), workers)
    return ExampleSet(images, None, tfds_source.source_of(spec, data_dir))


def open_own(spec: DatasetSpec, split: str, data_dir: Path) -> ExampleSet:
    """Returns a whole split of a user's own set, whose pixels are read by threads, since there is nothing to decode."""
    require_grain(spec.description)
    kept = kept_images(arrays_folder(data_dir, spec.name), split)
    records = KeptRecords(spec, split, data_dir, (), kept.labels, kept.path, kept.start)
    return ExampleSet(StreamedImages(records, np.arange(len(records)), workers=0), kept.labels, kept.source)
