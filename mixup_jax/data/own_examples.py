"""Makes examples from a user's own data: splits, classes, sizes, and decoding."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.images import PixelSums, fit, open_upright, shape_of
from mixup_jax.data.sets import DatasetSpec, ExampleSet, permutation, text_set
from mixup_jax.data.sources.published import Say
from mixup_jax.data.sources.rows import Found, Lazy, Rows
from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import UNLABELLED

RESIDENT_BYTES = 2**31
"""Images are streamed if all splits together would take more than this in memory."""
LARGEST_SIDE = 224
TEST_SHARE = 10
"""If there is no test split, one in this many examples of each class is drawn for it with seed 0."""
SHOWN = 5
SECONDS_BETWEEN_REPORTS = 5.0
AT_ONCE = 512


def own_examples(
    short: str, found: Found, image_size: int, name: str, say: Say
) -> tuple[DatasetSpec, dict[str, ExampleSet]]:
    """Returns the entry of a user's own set, and its examples by split."""
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
    if found.task == "text":
        return spec, {split: text_set(_texts(part), labels[split], source) for split, part in rows.items()}
    shape, streams = _shape(rows, image_size, name, say)
    decoded = _decoded(rows, shape, name, say, keep=not streams)
    mean, std = decoded["train"][1]
    if min(std) <= 0:
        raise InputError(f"{name} has training images whose pixels are all alike; expected images that differ")
    spec = replace(spec, shape=shape, mean=mean, std=std, streams=streams)
    inputs = {split: np.array(list(map(str, part.items)), object) for split, part in rows.items()} if streams else {}
    return spec, {split: ExampleSet(inputs.get(split, decoded[split][0]), labels[split], source) for split in rows}


def foreign_examples(
    short: str, found: Found, like: DatasetSpec, name: str, say: Say
) -> tuple[DatasetSpec, dict[str, ExampleSet]]:
    """Returns the entry of a user's own set as out-of-distribution input for networks of `like`, and its one split."""
    if found.task != like.task:
        raise InputError(f"{name} holds {found.task}s; expected {like.task}s, as {like.name} does")
    rows = {"test": found.splits["test"]} if "test" in found.splits else dict(found.splits)
    spec = DatasetSpec(
        short, classes=0, splits={"test": "test"}, description=name, shape=like.shape, task=like.task, sources=()
    )
    n = sum(len(part.items) for part in rows.values())
    unlabelled = np.full(n, UNLABELLED, np.int32)
    if found.task == "text":
        return spec, {"test": text_set([text for part in rows.values() for text in _texts(part)], unlabelled, name)}
    _check_memory(n, like.shape, name)
    images = np.concatenate([pixels for pixels, _ in _decoded(rows, like.shape, name, say, keep=True).values()])
    return spec, {"test": ExampleSet(images, unlabelled, name)}


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


def _shape(rows: Mapping[str, Rows], image_size: int, name: str, say: Say) -> tuple[tuple[int, ...], bool]:
    """Returns the shape in which images are stored, and whether they are too many for memory."""
    shapes = [shape for _, _, some in _each(rows, shape_of, name, say, "measured") for shape in some]
    sizes = {shape[:2] for shape in shapes}
    colour = max(shape[2] for shape in shapes)
    height, width = next(iter(sizes))
    if image_size:
        height = width = image_size
    elif len(sizes) > 1 or max(height, width) > LARGEST_SIDE:
        height = width = min(LARGEST_SIDE, int(np.median([min(shape[:2]) for shape in shapes])))
        found = "have several sizes" if len(sizes) > 1 else "are large"
        say(f"images {found}: each is cut to a square in its middle and brought to {height}x{width}")
    if len(shapes) * height * width * colour <= RESIDENT_BYTES:
        return (height, width, colour), False
    if not all(part.files for part in rows.values()):
        _check_memory(len(shapes), (height, width, colour), name)
    say("too many for memory: they are read and decoded while a network trains")
    return (min(height, width), min(height, width), 3), True


def _check_memory(n: int, shape: tuple[int, ...], name: str) -> None:
    size = n * int(np.prod(shape))
    if size > RESIDENT_BYTES:
        raise InputError(
            f"{n:,} images of {name} would take {size / 2**30:.1f} GiB of memory; expected at most "
            f"{RESIDENT_BYTES / 2**30:.0f} GiB (only a folder of image files to train on is streamed)"
        )


def _decoded(
    rows: Mapping[str, Rows], shape: tuple[int, ...], name: str, say: Say, *, keep: bool
) -> dict[str, tuple[npt.NDArray[np.uint8], tuple[tuple[float, ...], tuple[float, ...]]]]:
    """Returns the images of every split, uint8 `[N, H, W, C]` (empty without `keep`), and their statistics."""
    images = {split: np.empty((len(part.items) if keep else 0, *shape), np.uint8) for split, part in rows.items()}
    sums = {split: PixelSums() for split in rows}
    for split, start, some in _each(rows, lambda item: fit(open_upright(item), shape), name, say, "decoded"):
        pixels = np.stack(some)
        sums[split].add(pixels)
        if keep:
            images[split][start : start + len(pixels)] = pixels
    return {split: (images[split], sums[split].statistics()) for split in rows}


def _each(
    rows: Mapping[str, Rows], function: Callable[[Any], Any], name: str, say: Say, what: str
) -> Iterator[tuple[str, int, list[Any]]]:
    """Yields (split, first row, what `function` returns of some rows) for all examples, computed in threads.

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
                    yield split, start, made
    if broken:
        more = f", and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise InputError(
            f"{len(broken)} of the {total} images of {name} cannot be read: {'; '.join(sorted(broken)[:SHOWN])}{more}; "
            "expected whole images: repair or delete them"
        )
