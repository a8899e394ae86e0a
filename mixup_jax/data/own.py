"""A user's own: data sets `folder:PATH`, `arrays:FILE.npz`, `tfds:NAME`, `hf:PATH` or `table:FILE`, and images.

A data set is read once.  Its arrays are cached like those of the catalogue's sets, and its measurements in `spec.json`,
until one of its files changes.  Images for a trained network (`given_images`) are decoded when they are predicted.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import (
    arrays_folder,
    cached_splits,
    default_data_dir,
    require_writable,
    write_cache,
    write_images,
)
from mixup_jax.data.images import PixelSums, cut, fit, open_upright
from mixup_jax.data.own_examples import OwnExamples, foreign_examples, own_examples
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.sources import Say, arrays, folder, tables, tfds, timed
from mixup_jax.errors import InputError, local_path, not_a_file
from mixup_jax.escapes import print_line
from mixup_jax.runs.files import write_json

ORIGINS: dict[str, ModuleType] = {
    "folder": folder,
    "arrays": arrays,
    "tfds": tfds,
    "hf": tables,
    "table": tables,
}
"""The prefix before the colon -> the module with its `stamp` and `find`."""
OWN = ("folder:PATH", "arrays:FILE.npz", "tfds:NAME", "hf:PATH", "table:FILE")
"""The forms of such names, for messages."""
FORMAT = 1
Pixels = npt.NDArray[np.uint8]


def is_own(name: str) -> bool:
    """Returns whether a name has the form of a user's own data set."""
    origin, _, place = name.partition(":")
    return origin in ORIGINS and bool(place)


def short_name(name: str, shape: tuple[int, ...] = ()) -> str:
    """Returns a set's name for files and tables: the last part of its path, and a hash that makes it unique."""
    origin, _, place = name.partition(":")
    where = place if origin == "tfds" else str(Path(place).expanduser().resolve())
    stem = re.sub(r"\W+", "_", Path(place).stem).strip("_")[:40] or "data"
    mark = hashlib.sha256(where.encode()).hexdigest()[:6]
    return "-".join([origin, stem, mark, *(["x".join(map(str, shape))] if shape else [])])


def record_name(name: str) -> str:
    """Returns the name of a set in records: the short name of a user's own set, else the name itself."""
    return short_name(name) if is_own(name) else name


def fingerprint(spec: DatasetSpec, examples: int) -> str:
    """Returns a SHA-256 of a set's measurements and its number of training examples; its path does not matter."""
    facts = [examples, spec.classes, spec.class_names, spec.shape, spec.mean, spec.std, spec.task]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def own_spec(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    report: Say = print_line,
    image_size: int = 0,
    like: DatasetSpec | None = None,
) -> DatasetSpec:
    """Returns the entry of a user's own set; reads and measures the set first if necessary.

    Args:
      name: such as `folder:PATH`.
      data_dir: where the arrays are cached; tfds's default if None.
      report: takes lines of progress.
      image_size: height and width to which images are resized; 0 for the rule of docs/data.md.
      like: read the set as out-of-distribution input for a network trained on this one: its images are resized to
        `like.shape`, it has one split, "test" (its own test split, or else all examples), and labels are not read.
    """
    data_dir = Path(data_dir or default_data_dir()).expanduser()
    origin, _, place = name.partition(":")
    local_path(place)  # refuses an address
    module = ORIGINS[origin]
    stamp = module.stamp(place, data_dir)
    shape = (image_size, image_size) if image_size else ()
    short = short_name(name, shape if like is None else (like.shape or (0,)))
    kept = arrays_folder(data_dir, short)
    if (spec := _read_spec(kept, stamp)) is not None:
        return spec
    say = timed(report, name)
    require_writable(data_dir)
    with _one_at_a_time(kept.with_name(f".{short}.lock")):
        if (spec := _read_spec(kept, stamp)) is not None:
            return spec  # another process has prepared it meanwhile
        found = module.find(place, data_dir, like is None)
        for note in found.notes:
            say(note)
        if empty := [split for split, part in found.splits.items() if not len(part.items)]:
            raise InputError(f"{name} has no examples (split {empty[0]}); expected at least one")
        examples = (
            foreign_examples(short, found, like, name, say)
            if like
            else own_examples(short, found, image_size, name, say)
        )
        (kept / "spec.json").unlink(missing_ok=True)
        try:
            spec = _written(examples, kept, say)
        except InputError:
            shutil.rmtree(kept, ignore_errors=True)
            raise
        write_json(kept / "spec.json", {"format": FORMAT, "stamp": stamp, "spec": asdict(spec)})
    say(f"prepared in {kept}")
    return spec


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Holds a lock during the block, so that others that prepare the same set wait; a refusal removes its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))):
                continue  # another process has removed it while this one waited
            try:
                yield
            except InputError:
                path.unlink(missing_ok=True)
                raise
            return


def _read_spec(kept: Path, stamp: str) -> DatasetSpec | None:
    """Returns the entry that was measured when the files had this stamp; None if it or the cache is missing."""
    try:
        record = json.loads((kept / "spec.json").read_bytes())
        spec = spec_of(record["spec"])
        whole = cached_splits(kept) == tuple(spec.splits)
        return spec if whole and (record["format"], record["stamp"]) == (FORMAT, stamp) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: the set is prepared again


def _written(examples: OwnExamples, kept: Path, say: Say) -> DatasetSpec:
    """Writes all examples of a set, and returns its entry with the mean and deviation of its training images."""
    spec = examples.spec
    if spec.task == "text":
        write_cache(kept, examples.texts())
        return spec
    sums = {"train": PixelSums()} if spec.trains else {}
    write_images(kept, examples.source, spec.shape, examples.labels, examples.images(sums, say), examples.files)
    if not spec.trains:
        return spec
    mean, std = sums["train"].statistics()
    if min(std) <= 0:
        raise InputError(f"{examples.name} has training images whose pixels are all alike; expected images that differ")
    return replace(spec, mean=mean, std=std)


def spec_of(facts: Mapping[str, Any]) -> DatasetSpec:
    """Returns the entry whose fields were written as JSON, which has no tuples."""
    fields: dict[str, Any] = {key: tuple(fact) if isinstance(fact, list) else fact for key, fact in facts.items()}
    return DatasetSpec(**fields)


class Given(NamedTuple):
    """An image that was given.

    Attributes:
      name: the path of its file, or the name of its array with its split and row, such as `x.npz[test 3]`.
      items: of which it is one: paths, the bytes of image files, or pixels uint8 `[h, w, c]`; read when accessed.
      row: its place in them.
    """

    name: str
    items: Any
    row: int = 0


def given_images(arguments: Sequence[str], data_dir: Path) -> list[Given]:
    """Returns the images that the arguments name, in their order; nothing is decoded.

    An argument is an image file, a folder (all images in it), a file of arrays `.npz`, or the name of an own data set.
    """
    found: list[Given] = []
    for argument in arguments:
        origin, _, place = argument.partition(":") if is_own(argument) else ("", "", argument)
        path = local_path(place)
        if path.is_dir() and origin in ("", "folder"):
            found += [Given(str(file), (file,)) for file in folder.images(path)]
        elif origin or path.suffix == ".npz":
            rows = (ORIGINS[origin] if origin else arrays).find(place, data_dir, False)
            if rows.task != "image":
                raise InputError(f"{argument} holds {rows.task}s; expected images")
            for split, part in rows.splits.items():
                found += [Given(f"{argument}[{split} {row}]", part.items, row) for row in range(len(part.items))]
        elif path.is_file():
            found.append(Given(str(path), (path,)))
        else:
            raise InputError(f"{argument} {not_a_file(path)}; expected an image, a folder of images or an .npz of them")
    if not found:
        endings = ", ".join(folder.ENDINGS)
        raise InputError(f"{', '.join(arguments)} has no images; expected files ending in {endings}")
    return found


def decoded(given: Sequence[Given], spec: DatasetSpec, at_once: int) -> Iterator[tuple[list[Given], Pixels, list[str]]]:
    """Yields images as the evaluation of a network trained on `spec` sees them, at most `at_once` together.

    Yields:
      (the images that could be decoded, their pixels uint8 `[n, H, W, C]`, and the others, each with the reason).
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(given), at_once):
            some = given[start : start + at_once]
            made = list(pool.map(partial(_seen, spec=spec), some))
            whole = [(one, pixels) for one, pixels in zip(some, made, strict=True) if not isinstance(pixels, str)]
            images = np.stack([pixels for _, pixels in whole]) if whole else np.empty((0, *spec.shape), np.uint8)
            yield [one for one, _ in whole], images, [reason for reason in made if isinstance(reason, str)]


def _seen(given: Given, spec: DatasetSpec) -> Pixels | str:
    """Returns the pixels of an image as evaluation sees it, or why there are none."""
    try:
        picture = open_upright(given.items[given.row])
        return cut(picture, spec.shape, None) if spec.always_cut else fit(picture, spec.shape)
    except Exception as error:  # Pillow may raise any exception here
        return f"{given.name} ({type(error).__name__}: {error})"
