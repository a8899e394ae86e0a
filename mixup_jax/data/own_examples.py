"""Makes examples from a user's own data: splits, classes, sizes, and decoding."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.images import PixelSums, fit, open_upright, shape_of
from mixup_jax.data.sets import DatasetSpec, ExampleSet, permutation, text_set
from mixup_jax.data.sources import Found, Lazy, Rows, Say
from mixup_jax.data.stream import require_grain
from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import UNLABELLED

RESIDENT_BYTES = 2**31
"""A set is streamed if the images of all splits together would take more than this in memory."""
LARGEST_SIDE = 224
TEST_SHARE = 10
"""If there is no test split, one in this many examples of each class is drawn for it with seed 0."""
SHOWN = 5
SECONDS_BETWEEN_REPORTS = 5.0
AT_ONCE = 64
"""The number of images that are held in memory while a set is prepared."""


@dataclass(frozen=True)
class OwnExamples:
    """A user's own data set, of which the images are not decoded yet.

    Attributes:
      spec: its entry, for images without mean and deviation.
      rows: the examples, by the splits in which they were found.
      labels: by the splits of the entry, which has one, "test", if it is read as out-of-distribution input.
      source: a line about its source.
      name: as the user wrote it.
    """

    spec: DatasetSpec
    rows: Mapping[str, Rows]
    labels: Mapping[str, npt.NDArray[np.int32]]
    source: str
    name: str

    @property
    def files(self) -> dict[str, list[str]]:
        """By split, the image files of a set that is streamed, out of which rectangles may be cut; empty for others."""
        cuts = self.spec.streams and self.spec.trains
        return {split: list(map(str, part.items)) for split, part in self.rows.items() if cuts and part.files}

    def texts(self) -> dict[str, ExampleSet]:
        """Returns the examples of every split, which are texts."""
        texts: dict[str, list[str]] = {split: [] for split in self.labels}
        for split, part in self.rows.items():
            texts[self._split(split)] += _texts(part)
        return {split: text_set(some, self.labels[split], self.source) for split, some in texts.items()}

    def images(self, sums: Mapping[str, PixelSums], say: Say) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """Decodes all images and yields some after the other, uint8 `[n, H, W, C]`, with their split.

        Their pixels are added to the sums of the split, if there are any.
        """
        shape = self.spec.shape
        for split, some in _each(self.rows, lambda item: fit(open_upright(item), shape), self.name, say, "decoded"):
            pixels = np.stack(some)
            if split in sums:
                sums[split].add(pixels)
            yield self._split(split), pixels

    def _split(self, found: str) -> str:
        return found if found in self.labels else "test"


def own_examples(short: str, found: Found, image_size: int, name: str, say: Say) -> OwnExamples:
    """Returns the examples of a user's own set."""
    rows, source = _with_test(found, name, say)
    names, labels = _classes(rows, found.class_names, name, say)
    spec = DatasetSpec(
        name=short,
        classes=len(names),
        splits={split: split for split in rows},
        description=name,
        task=found.task,
        sources=(),
        class_names=names,
    )
    if found.task == "image":
        spec = replace(spec, shape=_shape(rows, image_size, name, say))
    return OwnExamples(_streamed_if_large(spec, labels, say), rows, labels, source, name)


def foreign_examples(short: str, found: Found, like: DatasetSpec, name: str, say: Say) -> OwnExamples:
    """Returns the examples of a user's own set as out-of-distribution input for networks of `like`."""
    if found.task != like.task:
        raise InputError(f"{name} holds {found.task}s; expected {like.task}s, as {like.name} does")
    rows = {"test": found.splits["test"]} if "test" in found.splits else dict(found.splits)
    spec = DatasetSpec(
        short, classes=0, splits={"test": "test"}, description=name, shape=like.shape, task=like.task, sources=()
    )
    labels = {"test": np.full(sum(len(part.items) for part in rows.values()), UNLABELLED, np.int32)}
    return OwnExamples(_streamed_if_large(spec, labels, say), rows, labels, name, name)


def _streamed_if_large(spec: DatasetSpec, labels: Mapping[str, npt.NDArray[np.int32]], say: Say) -> DatasetSpec:
    """Returns the entry of a set of images, which says whether they are too many for memory."""
    size = sum(map(len, labels.values())) * math.prod(spec.shape) if spec.task == "image" else 0
    if size <= RESIDENT_BYTES:
        return spec
    require_grain(spec.description)
    say(f"too many for memory ({size / 2**30:.1f} GiB): images are kept on disk, and read while they are used")
    return replace(spec, streams=True)


def _with_test(found: Found, name: str, say: Say) -> tuple[dict[str, Rows], str]:
    """Returns the splits including a test split, and the line that describes their source."""
    rows = dict(found.splits)
    if "all" in rows:
        rows = {"train": rows.pop("all"), **rows}
    if "train" not in rows:
        raise InputError(f"{name} has no training split, only {', '.join(rows)}; expected train, or one without splits")
    if "test" in rows:
        return rows, name
    labels = np.asarray(rows["train"].labels)
    drawn: list[npt.NDArray[np.int64]] = []
    for number, label in enumerate(np.unique(labels)):
        of_class = np.flatnonzero(labels == label)
        share = max(1, len(of_class) // TEST_SHARE) if len(of_class) > 1 else 0
        drawn.append(of_class[permutation(len(of_class), (0, number))[:share]])
    test = np.sort(np.concatenate(drawn))
    if not len(test):
        raise InputError(f"{name} has one example of each class; expected more, of which some can be held out for test")
    train = np.setdiff1d(np.arange(len(labels)), test)
    rows |= {"train": _some(rows["train"], train), "test": _some(rows["train"], test)}
    line = f"no test split: {len(test):,} of {len(labels):,} examples drawn for it, a tenth of each class, seed 0"
    say(line)
    return rows, f"{name}; {line}"


def _some(rows: Rows, chosen: npt.NDArray[np.int64]) -> Rows:
    assert rows.labels is not None
    labels: Any = [rows.labels[row] for row in chosen]
    return replace(rows, items=Lazy(chosen, rows.items.__getitem__), labels=labels)


def _classes(
    rows: Mapping[str, Rows], class_names: Sequence[str] | None, name: str, say: Say
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int32]]]:
    """Returns the names of the classes, and the labels of every split as 0 to K - 1.

    Other labels are sorted and numbered; a line says so.
    """
    if class_names is not None:
        values: list[Any] = list(range(len(class_names)))
    else:
        values = sorted(set(rows["train"].labels or ()))
        numbers = [value for value in values if isinstance(value, int)]
        if numbers and values != list(range(len(values))):
            say(f"labels {values[0]} to {values[-1]} become the classes 0 to {len(values) - 1}, in their order")
    if len(values) < 2:
        raise InputError(f"{name} has {len(values)} class to train on; expected at least 2")
    places = {value: place for place, value in enumerate(values)}
    labels = {}
    for split, part in rows.items():
        unknown: list[Any] = [label for label in part.labels or () if label not in places]
        if unknown:
            known = ", ".join(map(str, values[:SHOWN])) + (", .." if len(values) > SHOWN else "")
            raise InputError(f"{name} has in {split} the class {unknown[0]!r}; expected those of train: {known}")
        labels[split] = np.array([places[label] for label in part.labels or ()], np.int32)
    return tuple(map(str, class_names or values)), labels


def _texts(rows: Rows) -> list[str]:
    texts = (text.decode() if isinstance(text, bytes) else str(text) for text in rows.items)
    return [" ".join(text.split()) for text in texts]


def _shape(rows: Mapping[str, Rows], image_size: int, name: str, say: Say) -> tuple[int, ...]:
    """Returns the shape in which images are stored."""
    shapes = np.concatenate([some for _, some in _each(rows, shape_of, name, say, "measured")])
    height, width, colour = shapes.max(axis=0).tolist()
    several = bool(np.any(shapes[:, :2] != shapes[0, :2]))
    if image_size:
        height = width = image_size
    elif several or max(height, width) > LARGEST_SIDE:
        height = width = min(LARGEST_SIDE, int(np.median(shapes[:, :2].min(axis=1))))
        found = "have several sizes" if several else "are large"
        say(f"images {found}: each is cut to a square in its middle and brought to {height}x{width}")
    return height, width, colour


def _each(
    rows: Mapping[str, Rows], function: Callable[[Any], Any], name: str, say: Say, what: str
) -> Iterator[tuple[str, list[Any]]]:
    """Yields (split, what `function` returns of some rows) for all examples in order, computed in threads.

    If it failed for some rows, an InputError at the end names the first ones with the reasons.
    """
    broken: list[str] = []
    done, last, total = 0, monotonic(), sum(len(part.items) for part in rows.values())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for split, part in rows.items():

            def one(row: int, split: str = split, part: Rows = part) -> Any:
                try:
                    return function(part.items[row])
                except Exception as error:  # Pillow may raise any exception here
                    where = str(part.items[row]) if part.files else f"{split} row {row}"
                    broken.append(f"{where} ({type(error).__name__}: {error})")
                    return None

            for start in range(0, len(part.items), AT_ONCE):
                made = list(pool.map(one, range(start, min(start + AT_ONCE, len(part.items)))))
                done += len(made)
                if monotonic() - last > SECONDS_BETWEEN_REPORTS:
                    last = monotonic()
                    say(f"{what} {done:,} of {total:,} images")
                if not broken:
                    yield split, made
    if broken:
        more = f", and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise InputError(
            f"{len(broken)} of the {total} images of {name} cannot be read: {'; '.join(sorted(broken)[:SHOWN])}{more}; "
            "expected whole images: repair or delete them"
        )
