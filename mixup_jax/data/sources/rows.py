"""What an origin of a user's own data says of it, before anything is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
"""What people call a split -> what it is called here."""


@dataclass(frozen=True)
class Rows:
    """The examples of a split, as they are found.

    Attributes:
      items: by row a file of an image, what is in one, pixels uint8 `[h, w, c]` with c in {1, 3}, or a text; a
        sequence that may read a row only when it is asked for.
      labels: by row, whole numbers or names; None where there are none.
      files: the items are paths, so that what is too large for memory can be streamed.
    """

    items: Any
    labels: Sequence[int] | Sequence[str] | None
    files: bool = False


@dataclass(frozen=True)
class Found:
    """What there is under a name.

    Attributes:
      splits: by the name it has here; "all" where it comes in one piece.
      class_names: in the order of the labels, where the labels are numbers and have names; else None.
      task: "image" or "text".
    """

    splits: Mapping[str, Rows]
    class_names: tuple[str, ...] | None
    task: str = "image"


def stamp_of(paths: Iterable[Path]) -> str:
    """Returns what changes whenever one of these files is added, removed, replaced or written: a SHA-256."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            facts = path.stat()
            digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except FileNotFoundError:  # a link that leads nowhere: reading it will say so
            digest.update(f"{path}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
