"""What a prepared data set holds, measured, and checked against the catalogue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.arrays import load_split
from mixup_jax.data.cache import Arrays, Sentences, cached_splits
from mixup_jax.data.catalog import DatasetSpec
from mixup_jax.data.contact_sheet import contact_sheet
from mixup_jax.data.paths import arrays_folder
from mixup_jax.data.split import permutation
from mixup_jax.data.stream import open_streamed
from mixup_jax.data.tokens import tokenise
from mixup_jax.errors import InputError
from mixup_jax.runs.files import write_atomically

# The catalogue keeps at least four digits.
STATISTICS_TOLERANCE = 5e-5
SAMPLE = 256
"""How many images of a streamed set are looked at."""
_CHUNK = 4096


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation of each channel, of pixels divided by 255.

    The sums are taken in integers, so nothing is lost to rounding however many images there are; the
    deviation is the population's (divided by N, not N - 1).

    Args:
      images: uint8 `[N, H, W, C]`, N >= 1.

    Returns:
      (mean, std): C numbers each, mean within [0, 1] and std within [0, 0.5].
    """
    pixels = images.size // images.shape[-1]
    total = np.zeros(images.shape[-1], np.int64)
    squares = np.zeros(images.shape[-1], np.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.uint32)
        total += chunk.sum(axis=(0, 1, 2), dtype=np.int64)
        squares += np.square(chunk).sum(axis=(0, 1, 2), dtype=np.int64)
    mean = total / pixels
    std = np.sqrt(squares / pixels - mean**2)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def describe(spec: DatasetSpec, data_dir: Path) -> Iterator[str]:
    """Reads every split of a prepared set, checks it against the catalogue, and yields lines about it.

    Raises:
      InputError: the set is not prepared or damaged, or contradicts the catalogue.
    """
    folder = arrays_folder(data_dir, spec.name)
    yield f"{spec.name}: {spec.description}"
    if spec.streams:
        yield from _describe_streamed(spec, data_dir)
        return
    yield f"  folder: {folder}"
    for number, split in enumerate(cached_splits(folder)):
        arrays = load_split(spec.name, split, data_dir)
        if number == 0:
            yield f"  source: {arrays.source}"
        if isinstance(arrays, Sentences):
            check_text(spec, split, arrays)
            yield from _text_lines(spec, split, arrays)
            continue
        if not isinstance(arrays, Arrays):
            raise TypeError(f"{spec.name}/{split} holds neither images nor texts")
        mean, std = check(spec, split, arrays)
        yield f"  {split}: {_shape(arrays.inputs)}, {_balance(arrays.labels, spec.classes)}"
        yield f"  {split}: mean {_numbers(mean)}, standard deviation {_numbers(std)} (pixels / 255, by channel)"
        sheet = folder / f"{split}-contact-sheet.png"
        with contextlib.suppress(OSError):  # a folder that cannot be written is no reason to fail
            write_atomically(sheet, contact_sheet(arrays.inputs, arrays.labels))
            yield f"  {split}: a row of images for each class in {sheet}"


def _describe_streamed(spec: DatasetSpec, data_dir: Path) -> Iterator[str]:
    """Yields lines about a set that is too large to be looked at whole: its counts, and a sample."""
    for number, split in enumerate(spec.splits):
        whole = open_streamed(spec, split, data_dir, spec.shape[0], workers=0)
        if number == 0:
            yield f"  source: {whole.source}"
        rows = permutation(len(whole.inputs), 0)[:SAMPLE]
        sample = whole.part(rows, whole.source)
        mean, std = channel_statistics(sample.inputs[:])
        yield f"  {split}: {len(whole.inputs):,} images; {len(rows)} of them looked at:"
        yield f"  {split}: labels from {sample.labels.min()} to {sample.labels.max()}"
        yield f"  {split}: mean {_numbers(mean)}, standard deviation {_numbers(std)} (pixels / 255, centre crops)"


def check(spec: DatasetSpec, split: str, arrays: Arrays) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Holds one split against the catalogue and returns its channel statistics.

    The catalogue's mean and standard deviation are those of the training set; other splits may differ.

    Raises:
      InputError: shape, type, labels, or the training set's statistics are not the catalogue's.
    """
    images, labels = arrays.inputs, arrays.labels
    if images.shape[1:] != spec.shape or images.dtype != np.uint8 or len(images) != len(labels):
        raise InputError(
            f"{spec.name}/{split} has images {images.dtype} {list(images.shape)} and {len(labels)} labels; "
            f"expected uint8 [N, {', '.join(map(str, spec.shape))}] and N labels"
        )
    _check_labels(spec, split, labels)
    mean, std = channel_statistics(images)
    if split == "train" and np.abs(np.subtract((mean, std), (spec.mean, spec.std))).max() > STATISTICS_TOLERANCE:
        raise InputError(
            f"{spec.name}/{split} has mean {_numbers(mean)} and standard deviation {_numbers(std)}; "
            f"the catalogue says {_numbers(spec.mean)} and {_numbers(spec.std)}"
        )
    return mean, std


def check_text(spec: DatasetSpec, split: str, sentences: Sentences) -> None:
    """Holds one split of a text data set against the catalogue; raises InputError for wrong labels or no texts."""
    if not sentences.texts or len(sentences.texts) != len(sentences.labels):
        raise InputError(
            f"{spec.name}/{split} has {len(sentences.texts)} texts and {len(sentences.labels)} labels; "
            "expected as many texts as labels, and at least one"
        )
    _check_labels(spec, split, sentences.labels)


def _check_labels(spec: DatasetSpec, split: str, labels: npt.NDArray[np.int32]) -> None:
    if labels.min() < 0 or labels.max() >= spec.classes:
        raise InputError(
            f"{spec.name}/{split} has labels from {labels.min()} to {labels.max()}; expected 0 to {spec.classes - 1}"
        )


def _text_lines(spec: DatasetSpec, split: str, sentences: Sentences) -> Iterator[str]:
    lengths = np.array([len(tokenise(text)) for text in sentences.texts])
    yield f"  {split}: {len(lengths):,} texts, {_balance(sentences.labels, spec.classes)}"
    quantiles = ", ".join(f"{np.quantile(lengths, q):.0f} ({q:.0%})" for q in (0.5, 0.9, 0.99, 1.0))
    yield f"  {split}: tokens a text: {quantiles}"
    for label in range(spec.classes):
        first = int(np.argmax(sentences.labels == label))
        yield f"  {split}: class {label}, such as: {sentences.texts[first][:100]}"


def _shape(images: npt.NDArray[Any]) -> str:
    count, *size = images.shape
    return f"{count:,} images of {'x'.join(map(str, size))}"


def _balance(labels: npt.NDArray[np.int32], classes: int) -> str:
    counts = np.bincount(labels, minlength=classes)
    if counts.min() == counts.max():
        return f"{classes} classes of {counts[0]:,} each"
    return f"{classes} classes of {counts.min():,} to {counts.max():,}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
