"""The facts about a data set, its examples, and their seeded split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a labelled data set that are known without reading it.

    Attributes:
      tfds_name: its name in tensorflow-datasets, with the configuration if there are several; empty if
        tensorflow-datasets does not have it.
      classes: the number of classes K; labels are 0 to K - 1.
      shape: (H, W, C) of every stored image; () for text.
      mean: per-channel mean of the training set's pixels divided by 255, so within [0, 1]; () for text and for
        sets for evaluation only.
      std: per-channel standard deviation of the same pixels, in the same units (population, not sample).
      splits: its splits, each with its name in tensorflow-datasets.
      label: the name of the label in tensorflow-datasets.
      resized: whether the published images have other sizes and are resized to `shape` during preparation.
      keep_classes: the labels that are kept; all if empty.
      per_class: keep this many of each class, the first in tensorflow-datasets's order; 0 keeps all.
      streams: whether it is too large for memory, so that images are read batch by batch.
      sources: where preparation looks for it, in this order; names of `prepare.SOURCES`.  Empty for a user's own
        set, which `own` prepares.
      class_names: in the order of the labels; empty if they are not known.
    """

    name: str
    classes: int
    splits: Mapping[str, str]
    description: str
    tfds_name: str = ""
    shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: str = "image"
    label: str = "label"
    resized: bool = False
    keep_classes: tuple[int, ...] = ()
    per_class: int = 0
    streams: bool = False
    sources: tuple[str, ...] = ("tfds",)
    class_names: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether it is for training; other sets are for evaluation only."""
        return "train" in self.splits

    @property
    def always_cut(self) -> bool:
        """Whether images are cut out of photographs of any size each time they are read; others have one size."""
        return self.streams and bool(self.sources)

    def sized(self, size: int) -> DatasetSpec:
        """Returns the set with images of another height and width; 0 is the set's own."""
        return replace(self, shape=(size, size, *self.shape[2:])) if size else self


class ImagesOnDisk(Protocol):
    """Images that are read when they are accessed, by the positions of an array `[N, H, W, C]`: `stream` has them."""

    def __len__(self) -> int: ...

    def __getitem__(self, some: slice | npt.NDArray[Any]) -> npt.NDArray[Any]: ...

    def part(self, rows: npt.NDArray[np.int64]) -> ImagesOnDisk:
        """Returns the images at these positions, without reading them."""

    def batches(self, batch_size: int, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
        """Yields these rows of every batch, in order."""

    def read_labels(self) -> Labels:
        """Returns the class of each image; reads all of them."""


Inputs = npt.NDArray[Any] | ImagesOnDisk
"""The inputs of an `ExampleSet`."""


class ExampleSet:
    """Labelled examples: a split of a data set, or a part of one.

    Attributes:
      inputs: one of
        images in memory, in pixel units from 0 to 255: uint8 `[N, H, W, C]`, or float32 for noise (which may
        exceed the range);
        images on disk, which are read when they are accessed;
        texts, an array `[N]` of str, none with a line break;
        tokens, int32 `[N, L]`, 0 after the end of a text.
      source: one line saying where the examples come from.
    """

    def __init__(self, inputs: Inputs, labels: Labels | None, source: str) -> None:
        """Takes the labels; None for images on disk whose labels are to be read when they are first used."""
        self.inputs = inputs
        self.source = source
        self._labels = labels

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def labels(self) -> Labels:
        """The class of each example, int32 `[N]`; -1 for an example without a label."""
        if self._labels is not None:
            return self._labels
        assert not isinstance(self.inputs, np.ndarray)
        return self.inputs.read_labels()

    @property
    def are_texts(self) -> bool:
        """Whether the inputs are texts, not tokens."""
        return isinstance(self.inputs, np.ndarray) and self.inputs.dtype == object

    @property
    def array(self) -> npt.NDArray[Any]:
        """The inputs of a set in memory."""
        assert isinstance(self.inputs, np.ndarray)
        return self.inputs

    @property
    def in_memory(self) -> list[npt.NDArray[Any]]:
        """The arrays of a set in memory; none for a streamed set."""
        return [self.inputs, self.labels] if isinstance(self.inputs, np.ndarray) else []

    def part(self, rows: npt.NDArray[np.int64], source: str | None = None) -> ExampleSet:
        """Returns the examples at these positions; `source` replaces the line about their source."""
        inputs = self.inputs[rows] if isinstance(self.inputs, np.ndarray) else self.inputs.part(rows)
        labels = None if self._labels is None else self._labels[rows]
        return ExampleSet(inputs, labels, self.source if source is None else source)


def text_set(texts: Sequence[str], labels: Sequence[int] | Labels, source: str) -> ExampleSet:
    """Returns texts and their classes as a set of examples."""
    return ExampleSet(np.array(texts, dtype=object), np.asarray(labels, np.int32), source)


def check_labels(spec: DatasetSpec, split: str, labels: Labels) -> None:
    """Raises InputError unless the labels of a split, at least one, are classes of the set."""
    if labels.min() < 0 or labels.max() >= spec.classes:
        raise InputError(
            f"{spec.name}/{split} has labels from {labels.min()} to {labels.max()}; expected 0 to {spec.classes - 1}"
        )


def batches_of(inputs: Inputs, batch_size: int, rows: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[Any]]:
    """Yields these rows of every batch of consecutive examples; the last batch may have fewer.

    `rows` are the rows of this process, ascending, within 0..B-1.
    """
    if not isinstance(inputs, np.ndarray):
        yield from inputs.batches(batch_size, rows)
        return
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        yield batch if len(rows) == batch_size else batch[rows[rows < len(batch)]]


def train_validation_split(
    n: int, *, train_examples: int, validation_examples: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divides the indices 0..n-1 at random into training and validation.

    Validation takes the first indices of a seeded permutation, and training the following ones.  So the
    validation set does not depend on `train_examples`, and a smaller training set is part of a larger one.

    0 training examples means all that are not for validation.

    Returns:
      (train, validation): disjoint int64 indices in random order, `[train_examples]` (or
      `[n - validation_examples]`) and `[validation_examples]`.
    """
    for field, value in (("train_examples", train_examples), ("validation_examples", validation_examples)):
        if value < 0:
            raise InputError(f"data.{field} is {value}; expected 0 or more")
    if seed < 0:
        raise InputError(f"the seed of the training and validation split is {seed}; expected 0 or more")
    left = n - validation_examples
    if left < 1:
        raise InputError(
            f"data.validation_examples is {validation_examples}; the set has {n} examples, "
            f"so at most {n - 1} can be held out"
        )
    if train_examples > left:
        raise InputError(
            f"data.train_examples is {train_examples}; the set has {n} examples, of which {validation_examples} are "
            f"held out for validation, so at most {left} are left (0 takes them all)"
        )
    order = permutation(n, seed)
    return order[validation_examples : validation_examples + (train_examples or left)], order[:validation_examples]


def permutation(n: int, seed: int | Sequence[int]) -> npt.NDArray[np.int64]:
    """Returns 0..n-1 in a random order, int64 `[n]`, which depends on the seed only, not on the version of numpy."""
    # numpy guarantees that raw bits do not change between versions, but not so for Generator.permutation.  Sorting raw
    # bits keeps the validation set the same on all machines.
    return np.argsort(raw_bits(n, seed), kind="stable").astype(np.int64)


def raw_bits(n: int, seed: int | Sequence[int]) -> npt.NDArray[np.uint64]:
    """Returns n random words of 64 bits for a seed of one or more non-negative integers."""
    return np.random.PCG64(seed).random_raw(n)
