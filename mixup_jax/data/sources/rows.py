"""A user's own data as found by its source, before anything is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
      files: whether the items are paths, so that images can be streamed.
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
