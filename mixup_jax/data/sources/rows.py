"""A user's own data as found by its source, before anything is decoded."""

import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Common names of splits -> their names here."""


@dataclass(frozen=True)
class Rows:
    """The examples of a split, not decoded.

    Attributes:
      items: for each row the path of an image file, the bytes of one, pixels uint8 `[h, w, c]` with c in {1, 3}, or a
        text; the sequence may read a row only when it is accessed.
      labels: for each row a whole number or a name; None if there are no labels.
      files: whether the items are paths.
    """

    items: Any
    labels: Sequence[int] | Sequence[str] | None
    files: bool = False


@dataclass(frozen=True)
class Found:
    """A user's own data set, not decoded.

    Attributes:
      splits: by name; the only one is "all" if the set has no splits.
      class_names: in the order of the labels, if the labels are numbers with names; else None.
      task: "image" or "text".
      notes: what the user should know of what was found, in lines.
    """

    splits: Mapping[str, Rows]
    class_names: tuple[str, ...] | None
    task: str = "image"
    notes: tuple[str, ...] = ()


class Lazy:
    """A sequence of which each item is read when it is asked for.

    Attributes:
      rows: by position, the row to read.
      read: returns the item of a row.
    """

    def __init__(self, rows: Any, read: Callable[[Any], Any]) -> None:
        self.rows, self.read = rows, read

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: Any) -> Any:
        return self.read(self.rows[position])


class Blocks:
    """Items that lie in a file, each read when it is asked for, from any thread.

    Attributes:
      file: which is open, and is closed with the last reference to the blocks.
      starts, sizes: of each item in bytes, int64 `[N]`.
      shape: of an item as pixels uint8 `[h, w, c]`; None for bytes.
    """

    def __init__(
        self,
        file: IO[bytes],
        starts: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.file, self.starts, self.sizes, self.shape = file, starts, sizes, shape
        weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> bytes | npt.NDArray[np.uint8]:
        data = os.pread(self.file.fileno(), int(self.sizes[row]), int(self.starts[row]))
        return data if self.shape is None else np.frombuffer(data, np.uint8).reshape(self.shape)


def scratch(data_dir: Path) -> IO[bytes]:
    """Returns a new file without a name, which is gone when it is closed: in the data folder, where there is one."""
    return tempfile.TemporaryFile(dir=data_dir if os.access(data_dir, os.W_OK) else None)


def stamp_of(paths: Iterable[Path]) -> str:
    """Returns a SHA-256 that changes when one of these files is added, removed, replaced or written."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            facts = path.stat()
            digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except FileNotFoundError:  # a broken link; the error comes when it is read
            digest.update(f"{path}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
