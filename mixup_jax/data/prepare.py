"""Prepares a data set on disk from the first of its sources that has it, checks it and describes it."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import (
    arrays_folder,
    cached_splits,
    manual_folder,
    prepare_command,
    read_cache,
    require_writable,
    write_cache,
)
from mixup_jax.data.catalog import dataset_spec
from mixup_jax.data.images import channel_statistics, contact_sheet, rows_of_sheet
from mixup_jax.data.load import open_split, read_split
from mixup_jax.data.sets import DatasetSpec, ExampleSet, check_labels, permutation
from mixup_jax.data.sources import Say, Source, Splits, UnavailableError, timed
from mixup_jax.data.sources.packages import Debian, Digits
from mixup_jax.data.sources.texts import Snippets, Trec
from mixup_jax.data.sources.tfds import Tfds, originals_of
from mixup_jax.data.text import tokenise
from mixup_jax.errors import InputError
from mixup_jax.escapes import print_line
from mixup_jax.runs.files import write_atomically

SOURCES: dict[str, Source] = {
    "tfds": Tfds(),
    "debian": Debian(),
    "digits": Digits(),
    "snippets": Snippets(),
    "trec": Trec(),
}
"""The sources by their names in the catalogue."""
# The catalogue's values have at least four digits.
STATISTICS_TOLERANCE = 5e-5
SHOWN = 20
"""The most class names that are listed."""
SAMPLE = 256
"""The number of images of a streamed set that are measured."""


def prepare(name: str, data_dir: str | os.PathLike[str], report: Callable[[str], None] = print_line) -> None:
    """Prepares a data set so that `load.load_split` can read it; does nothing if that is done.

    Its sources are tried in order, first for files on this machine (built by tensorflow-datasets, or put into
    `<data_dir>/downloads/manual/<name>/` by the user), then for the network.  Published checksums are verified.
    A set that is too large for memory stays as tensorflow-datasets builds it.

    Raises:
      InputError: unknown name, a folder that cannot be written, TensorFlow missing although it is
        needed, a wrong file in the manual folder, no source in reach, or data that contradict the
        catalogue; the message says what to do.
      TfdsError: tfds failed on files that are right, which is no mistake of the user.
    """
    spec, data_dir = dataset_spec(name), Path(data_dir).expanduser()
    folder = arrays_folder(data_dir, name)
    say = timed(report, name)
    if _is_intact(folder, say):
        say(f"already prepared in {folder}")
        return
    if not spec.streams:
        require_writable(data_dir)
    splits = _obtain(spec, data_dir, say)
    for split, examples in splits.items():
        check(spec, split, examples)
    if splits:
        say(f"writing arrays to {folder}")
        write_cache(folder, splits)
    say("prepared")


def _is_intact(folder: Path, say: Say) -> bool:
    try:
        splits = cached_splits(folder)
        for split in splits:
            read_cache(folder, split)
    except InputError as error:
        say(f"preparing it again, because {error}")
        return False
    return bool(splits)


def _obtain(spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
    sources, reasons = [SOURCES[name] for name in spec.sources], []
    try:
        for source in sources:
            found = source.at_hand(spec, data_dir, say)
            if found is not None:
                return found
    except UnavailableError as error:
        raise _nowhere(spec, data_dir, [str(error)]) from error
    for source in sources:
        try:
            found = source.fetch(spec, data_dir, say)
        except UnavailableError as error:
            say(str(error))
            reasons.append(str(error))
        else:
            if found is not None:
                return found
    raise _nowhere(spec, data_dir, reasons)


def _misplaced(spec: DatasetSpec, folder: Path) -> str:
    """Returns which file of a set lies in a folder above the one it belongs into, for a message; empty if none."""
    names = originals_of(spec).sha256 if "tfds" in spec.sources else {}
    places = [place / name for place in list(folder.parents)[:3] for name in names]
    found = [place for place in places if place.is_file()]
    return f"move {found[0]} there, and the others; " if found else ""


def _nowhere(spec: DatasetSpec, data_dir: Path, reasons: list[str]) -> InputError:
    wanted = "; or ".join(filter(None, (SOURCES[name].wanted(spec) for name in spec.sources)))
    folder = manual_folder(data_dir, spec.name)
    return InputError(
        f"{spec.name} cannot be had ({'; '.join(reasons)}); put its files into {folder}: "
        f"{_misplaced(spec, folder)}{wanted}; then run: {prepare_command(spec.name, data_dir)}"
    )


def describe(spec: DatasetSpec, data_dir: Path) -> Iterator[str]:
    """Reads every split of a prepared set, checks it against the catalogue, and yields lines about it."""
    folder = arrays_folder(data_dir, spec.name)
    yield f"{spec.name}: {spec.description}"
    if spec.class_names:
        yield f"  classes: {', '.join(spec.class_names[:SHOWN])}{', ..' if len(spec.class_names) > SHOWN else ''}"
    if spec.streams:
        yield from _describe_streamed(spec, data_dir)
        return
    yield f"  folder: {folder}"
    for number, split in enumerate(cached_splits(folder)):
        arrays = read_split(spec, split, data_dir)
        if number == 0:
            yield f"  source: {arrays.source}"
        check(spec, split, arrays)
        if arrays.are_texts:
            yield from _text_lines(spec, split, arrays)
            continue
        mean, std = channel_statistics(arrays.array)
        yield f"  {split}: {_shape(arrays.array)}, {_balance(arrays.labels, spec.classes)}"
        yield f"  {split}: mean {_numbers(mean)}, standard deviation {_numbers(std)} (pixels / 255, by channel)"
        yield from _sheet(spec, split, data_dir, arrays)


def _sheet(spec: DatasetSpec, split: str, data_dir: Path, examples: ExampleSet) -> Iterator[str]:
    """Writes a contact sheet beside the images, and yields a line about it."""
    shown = examples.part(rows_of_sheet(examples.labels))
    sheet = arrays_folder(data_dir, spec.name) / f"{split}-contact-sheet.png"
    with contextlib.suppress(OSError):  # the folder may be read-only
        write_atomically(sheet, contact_sheet(shown.inputs[:], shown.labels))
        yield f"  {split}: a row of images for each class in {sheet}"


def _describe_streamed(spec: DatasetSpec, data_dir: Path) -> Iterator[str]:
    """Yields the counts of a streamed set, which is too large to be read whole, and the statistics of a sample."""
    for number, split in enumerate(spec.splits):
        whole = open_split(spec, split, data_dir)
        if number == 0:
            yield f"  source: {whole.source}"
        rows = permutation(len(whole), 0)[:SAMPLE]
        sample = whole.part(rows)
        mean, std = channel_statistics(sample.inputs[:])
        yield f"  {split}: {len(whole):,} images; {len(rows)} of them looked at:"
        yield f"  {split}: labels from {sample.labels.min()} to {sample.labels.max()}"
        yield f"  {split}: mean {_numbers(mean)}, standard deviation {_numbers(std)} (pixels / 255, as evaluated)"
        if not spec.always_cut:  # their labels need not be read first
            yield f"  {split}: {_size(spec.shape)}, {_balance(whole.labels, spec.classes)}"
            yield from _sheet(spec, split, data_dir, whole)


def check(spec: DatasetSpec, split: str, examples: ExampleSet) -> None:
    """Raises InputError unless shape, type, labels and the training set's statistics are those of the catalogue."""
    inputs, labels = examples.array, examples.labels
    if not len(inputs) or len(inputs) != len(labels):
        raise InputError(
            f"{spec.name}/{split} has {len(inputs)} examples and {len(labels)} labels; "
            "expected as many examples as labels, and at least one"
        )
    check_labels(spec, split, labels)
    if spec.task == "text":
        return
    if inputs.shape[1:] != spec.shape or inputs.dtype != np.uint8:
        raise InputError(
            f"{spec.name}/{split} has images {inputs.dtype} {list(inputs.shape)}; "
            f"expected uint8 [N, {', '.join(map(str, spec.shape))}]"
        )
    if split != "train":
        return
    mean, std = channel_statistics(inputs)
    if np.abs(np.subtract((mean, std), (spec.mean, spec.std))).max() > STATISTICS_TOLERANCE:
        raise InputError(
            f"{spec.name}/{split} has mean {_numbers(mean)} and standard deviation {_numbers(std)}; "
            f"the catalogue says {_numbers(spec.mean)} and {_numbers(spec.std)}"
        )


def _text_lines(spec: DatasetSpec, split: str, sentences: ExampleSet) -> Iterator[str]:
    lengths = np.array([len(tokenise(text)) for text in sentences.array])
    yield f"  {split}: {len(lengths):,} texts, {_balance(sentences.labels, spec.classes)}"
    quantiles = ", ".join(f"{np.quantile(lengths, q):.0f} ({q:.0%})" for q in (0.5, 0.9, 0.99, 1.0))
    yield f"  {split}: tokens a text: {quantiles}"
    for label in range(spec.classes):
        first = int(np.argmax(sentences.labels == label))
        yield f"  {split}: class {label}, such as: {sentences.array[first][:100]}"


def _shape(images: npt.NDArray[Any]) -> str:
    count, *size = images.shape
    return f"{count:,} images of {_size(size)}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _balance(labels: npt.NDArray[np.int32], classes: int) -> str:
    counts = np.bincount(labels, minlength=classes)
    if counts.min() == counts.max():
        return f"{classes} classes of {counts[0]:,} each"
    return f"{classes} classes of {counts.min():,} to {counts.max():,}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
