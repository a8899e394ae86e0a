"""The sources of data sets, one file each, and what they share.

Those of the catalogue are subclasses of `Source`; `Originals` are a set's published files.  Those of a user's own sets
are modules with `stamp` and `find`, which returns a set as it was `Found`, before anything is decoded.
"""

import hashlib
import os
import tempfile
import urllib.request
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import file_sha256
from mixup_jax.data.sets import DatasetSpec, ExampleSet
from mixup_jax.errors import InputError

PROBE_SECONDS = 5.0

Splits = Mapping[str, ExampleSet]
"""The examples of each split; empty for a streamed set, which is read from the files of its source."""
Say = Callable[[str], None]
"""Takes lines of progress."""


class UnavailableError(Exception):
    """A source does not have the set, or has an unexpected one; the message says why, in one line."""


class Source:
    """A source of data sets; subclasses override the methods for what their source offers."""

    def at_hand(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits | None:
        """Returns the set from files on this machine; None if they are not there.

        Raises:
          InputError: a file differs from the published one.
          UnavailableError: the same, for sources that can be skipped.
        """

    def fetch(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits | None:
        """Returns the set from the network; None if this source has no download.

        Raises:
          UnavailableError: it could not be fetched.
        """

    def wanted(self, spec: DatasetSpec) -> str:
        """Returns, for messages, the files that a user may put into the set's manual folder; empty if none."""
        return ""


@dataclass(frozen=True)
class Originals:
    """A set's published files.

    Attributes:
      url: the folder from which tfds downloads them.
      sha256: file name -> SHA-256 in hexadecimal, as checked by tfds.
    """

    url: str
    sha256: Mapping[str, str]

    def __str__(self) -> str:
        """Returns the file names with their checksums, on one line."""
        return ", ".join(f"{name} (SHA-256 {sha256})" for name, sha256 in self.sha256.items())


ORIGINALS: dict[str, Originals] = {
    "fashion_mnist": Originals(
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        sha256={
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "mnist": Originals(
        url="https://storage.googleapis.com/cvdf-datasets/mnist/",
        sha256={
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
}


def have_originals(originals: Originals, folder: Path) -> bool:
    """Returns whether `folder` holds every file of a set; InputError if a file differs from the published one."""
    present = [name for name in originals.sha256 if (folder / name).is_file()]
    for name in present:
        found = file_sha256(folder / name)
        if found != originals.sha256[name]:
            raise InputError(
                f"{folder / name} has SHA-256 {found}; expected {originals.sha256[name]}: "
                "delete it, or put the original file there"
            )
    return len(present) == len(originals.sha256)


def timed(report: Say, name: str) -> Say:
    """Returns what reports lines about a data set, with the seconds since now."""
    start = monotonic()
    return lambda line: report(f"[{monotonic() - start:5.1f} s] {name}: {line}")


def can_reach(url: str) -> bool:
    """Returns whether a web address answers a HEAD request within a few seconds."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
            return True
    except OSError:  # includes URLError, HTTPError and time-outs
        return False


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
