"""Where data lies: the one folder that tensorflow-datasets and this package share."""

from __future__ import annotations

import os
from pathlib import Path


def default_data_dir() -> Path:
    """Returns `$TFDS_DATA_DIR`, or `~/tensorflow_datasets` where it is unset or empty: tfds's own convention."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def arrays_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the folder of a set's decoded arrays."""
    return Path(data_dir).expanduser() / "arrays" / name


def vectors_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the folder of prepared word vectors."""
    return Path(data_dir).expanduser() / "vectors" / name


def manual_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the folder in which users may put a set's original files themselves."""
    return Path(data_dir).expanduser() / "downloads" / "manual" / name


def prepare_command(name: str, data_dir: str | os.PathLike[str]) -> str:
    """Returns the shell command that prepares a set in `data_dir`, for error messages."""
    folder = Path(data_dir).expanduser()
    option = "" if folder == default_data_dir() else f" --data_dir={folder}"
    return f"python -m mixup_jax.data {name}{option}"
