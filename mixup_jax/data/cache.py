"""Prepared data on disk: folders, file formats, and reading and writing with numpy only.

A set's folder holds, for each split, `<split>-images.npy` (uint8 `[N, H, W, C]`) or
`<split>-sentences.npy` (uint8: UTF-8, a newline after each text), and `<split>-labels.npy`; for images that are too
many for memory and came from files, also `<split>-files.npy` (uint8: their paths, as JSON).  Word
vectors are kept in the same way, as words and vectors.  `source.json` is written last: if it exists, all
arrays are complete.  It has each file's size and SHA-256 (as `sha256sum` prints it), so a truncated or
altered file is noticed when it is read.
"""

import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.data.sets import ExampleSet, Labels, text_set
from mixup_jax.errors import InputError, local_path
from mixup_jax.runs.files import write_json

SOURCE_FILE = "source.json"
FORMAT = 1
KINDS_OF_PARTS = ({"images", "labels"}, {"images", "labels", "files"}, {"sentences", "labels"}, {"words", "vectors"})


@dataclass(frozen=True)
class Vectors:
    """Words and their vectors, in the order of their file (in GloVe's files, by falling frequency).

    Attributes:
      words: W words.
      vectors: float32 `[W, E]`.
    """

    words: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    source: str


Kept = ExampleSet | Vectors


def write_cache(folder: Path, splits: Mapping[str, Kept]) -> None:
    """Writes every split of a set into `folder`, replacing what was there.

    If it is interrupted, no readable cache remains: the old `source.json` is removed first, and the new one is
    written last.
    """
    record = _begin(folder, next(iter(splits.values())).source)
    for split, examples in splits.items():
        record["splits"][split] = {
            part: _write_array(_array_path(folder, split, part), array.shape, array.dtype, [array])
            for part, array in _parts(examples).items()
        }
    write_json(folder / SOURCE_FILE, record)


def write_images(
    folder: Path,
    source: str,
    shape: tuple[int, ...],
    labels: Mapping[str, Labels],
    images: Iterable[tuple[str, npt.NDArray[np.uint8]]],
    files: Mapping[str, Sequence[str]],
) -> None:
    """Does what `write_cache` does for images `[n, *shape]` that come one part after the other, each with its split.

    `labels` are those of all images of each split, `files` the paths to keep beside some.
    """
    record = _begin(folder, source)
    for split, some in itertools.groupby(images, itemgetter(0)):
        place, n = partial(_array_path, folder, split), len(labels[split])
        parts = {"images": _write_array(place("images"), (n, *shape), np.dtype(np.uint8), (part for _, part in some))}
        beside = {"labels": labels[split]}
        if split in files:
            beside["files"] = np.frombuffer(json.dumps(files[split]).encode(), np.uint8)
        for part, array in beside.items():
            parts[part] = _write_array(place(part), array.shape, array.dtype, [array])
        record["splits"][split] = parts
    write_json(folder / SOURCE_FILE, record)


def _begin(folder: Path, source: str) -> dict[str, Any]:
    """Makes a folder, in which there is no readable cache any more, and returns the record of an empty one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SOURCE_FILE).unlink(missing_ok=True)
    return {"format": FORMAT, "source": source, "splits": {}}


def read_cache(folder: Path, split: str) -> Kept | None:
    """Reads one split, or returns None if `folder` has no cache.

    Every byte is checked against `source.json`; Fashion-MNIST's training set (47 MB) takes about 0.1 s.
    """
    record = _read_record(folder)
    if record is None:
        return None
    facts = _facts(folder, record, split)
    parts = {part: _read_array(_array_path(folder, split, part), facts[part]) for part in facts}
    if "words" in parts:
        return Vectors(_unpack(parts["words"]), parts["vectors"], record["source"])
    if "sentences" in parts:
        return text_set(_unpack(parts["sentences"]), parts["labels"], record["source"])
    return ExampleSet(parts["images"], parts["labels"], record["source"])


class KeptImages(NamedTuple):
    """A split of which the images stay on disk.

    Attributes:
      path: of the array of images.
      start: the place of its first pixel in the file, in bytes.
    """

    path: Path
    start: int
    labels: Labels
    source: str


def kept_images(folder: Path, split: str) -> KeptImages:
    """Returns where the images of a split are; of their file only the size is checked.

    Raises:
      InputError: `folder` has no cache, or another split.
    """
    record = _read_record(folder)
    if record is None:
        raise InputError(f"{folder} has no {SOURCE_FILE}; expected a prepared data set")
    facts, path = _facts(folder, record, split), _array_path(folder, split, "images")
    _check_size(path, facts["images"])
    labels = _read_array(_array_path(folder, split, "labels"), facts["labels"])
    start = facts["images"]["bytes"] - math.prod(facts["images"]["shape"])
    return KeptImages(path, start, labels, record["source"])


def kept_files(folder: Path, split: str) -> tuple[str, ...]:
    """Returns the paths that are kept beside the images of a split; empty if there are none."""
    facts = _facts(folder, _read_record(folder) or {"splits": {}, "source": ""}, split)
    if "files" not in facts:
        return ()
    return tuple(json.loads(_read_array(_array_path(folder, split, "files"), facts["files"]).tobytes()))


def _facts(folder: Path, record: Mapping[str, Any], split: str) -> dict[str, Any]:
    if split not in record["splits"]:
        found = ", ".join(record["splits"])
        raise InputError(f"{folder} has no split {split!r}; it holds {found} (source: {record['source']})")
    return dict(record["splits"][split])


def cached_splits(folder: Path) -> tuple[str, ...]:
    """Returns the names of the splits in `folder`; empty if it has no cache."""
    record = _read_record(folder)
    return () if record is None else tuple(record["splits"])


def file_sha256(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(examples: Kept) -> dict[str, npt.NDArray[Any]]:
    if isinstance(examples, Vectors):
        return {"words": _pack(examples.words), "vectors": examples.vectors}
    if examples.are_texts:
        return {"sentences": _pack(examples.array), "labels": examples.labels}
    return {"images": examples.array, "labels": examples.labels}


def _pack(texts: Iterable[str]) -> npt.NDArray[np.uint8]:
    texts = list(texts)
    if any("\n" in text for text in texts):
        raise ValueError("a text has a line break, which the cache keeps between texts")
    return np.frombuffer("".join(f"{text}\n" for text in texts).encode(), np.uint8)


def _unpack(packed: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(packed.tobytes().decode().split("\n")[:-1])


def _array_path(folder: Path, split: str, part: str) -> Path:
    return folder / f"{split}-{part}.npy"


def _write_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[npt.NDArray[Any]]
) -> dict[str, Any]:
    """Writes an array of which some rows come after the other; returns its facts."""
    # Atomic, so that two runs can decode the same set at the same time.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    digest, header = hashlib.sha256(), io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    try:
        with unfinished.open("wb") as file:
            for some in itertools.chain([header.getbuffer()], (np.ascontiguousarray(part).data for part in parts)):
                file.write(some)
                digest.update(some)
            size = file.tell()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return {"shape": list(shape), "dtype": str(dtype), "bytes": size, "sha256": digest.hexdigest()}


def _check_size(path: Path, facts: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise InputError(f"cached file {path} is missing, though {SOURCE_FILE} beside it lists it")
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise InputError(f"cached file {path} is damaged: it has {size} bytes, expected {facts['bytes']}")


def _read_array(path: Path, facts: Mapping[str, Any]) -> npt.NDArray[Any]:
    _check_size(path, facts)
    found = file_sha256(path)
    if found != facts["sha256"]:
        raise InputError(f"cached file {path} is damaged: its SHA-256 is {found}, expected {facts['sha256']}")
    array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _read_record(folder: Path) -> dict[str, Any] | None:
    path = folder / SOURCE_FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes())
        splits = list(record["splits"].values())
        intact = bool(splits) and all(set(split) in KINDS_OF_PARTS for split in splits)
        intact = intact and all({"bytes", "sha256"} <= part.keys() for split in splits for part in split.values())
        intact = intact and record["format"] == FORMAT and isinstance(record["source"], str)
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise InputError(f"{path} is damaged or of another version; expected a cache record of format {FORMAT}")
    return dict(record)


def default_data_dir() -> Path:
    """Returns `$TFDS_DATA_DIR`, or `~/tensorflow_datasets` if it is unset or empty, as tfds does.

    Raises:
      InputError: it is an address, such as that of a bucket.
    """
    try:
        return local_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    except InputError as error:
        raise InputError(f"$TFDS_DATA_DIR: {error}") from error


def arrays_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the folder of a set's decoded arrays."""
    return Path(data_dir).expanduser() / "arrays" / name


def vectors_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the folder of prepared word vectors."""
    return Path(data_dir).expanduser() / "vectors" / name


def manual_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the folder into which users may put a set's original files."""
    return Path(data_dir).expanduser() / "downloads" / "manual" / name


def prepare_command(name: str, data_dir: str | os.PathLike[str]) -> str:
    """Returns the shell command that prepares a set in `data_dir`, for error messages."""
    folder = Path(data_dir).expanduser()
    option = "" if folder == default_data_dir() else f" --data_dir={folder}"
    return f"python -m mixup_jax.data {name}{option}"


def require_writable(data_dir: Path) -> None:
    """Makes the data folder if it is missing; raises InputError if it cannot be written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        writable = os.access(data_dir, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise InputError(f"data folder {data_dir} cannot be written; choose another with --data_dir or $TFDS_DATA_DIR")
