"""Tables on disk: data sets of Hugging Face (parquet, or what `save_to_disk` writes), and texts in a CSV file."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixup_jax.data.sources.rows import SPLITS, Found, Rows, stamp_of
from mixup_jax.errors import InputError

ENDINGS = (".parquet", ".arrow", ".csv")
WANTED = "a column `image` (as the library `datasets` writes it) or `text`, and a column `label`"


@dataclass(frozen=True)
class _Table:
    """A file's columns by name, and the types that the library `datasets` noted in it."""

    columns: dict[str, list[Any]]
    features: dict[str, Any]


def stamp(place: str, data_dir: Path) -> str:
    """Returns a string that changes when the files do."""
    return stamp_of(_files(place))


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Reads the tables of a data set; needs pyarrow, except for CSV files.

    The split of a file is the word in its path that names one, such as `train-00000-of-00001.parquet` or
    `test/data-00000-of-00001.arrow`.
    """
    root, names, task = Path(place).expanduser(), None, "image"
    rows: list[Any]
    items: dict[str, list[Any]] = {}
    labels: dict[str, list[Any]] = {}
    for path in _files(place):
        table, split = _read(path), _split_of(path, root)
        label = _label_column(table, path) if labelled else ""
        if "text" in table.columns:
            task, rows = "text", [" ".join(str(text).split()) for text in table.columns["text"]]
        else:
            rows = _images(table, path)
        items.setdefault(split, []).extend(rows)
        if labelled:
            labels.setdefault(split, []).extend(_labels(table.columns[label], path))
            names = names or table.features.get(label, {}).get("names")
    splits = {split: Rows(rows, labels.get(split)) for split, rows in items.items()}
    return Found(splits, tuple(names) if names else None, task)


def _files(place: str) -> list[Path]:
    root = Path(place).expanduser()
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix in ENDINGS)
    if not files:
        raise InputError(f"{place} holds no {', '.join(ENDINGS)}; expected tables with {WANTED}")
    for state in root.rglob("state.json") if root.is_dir() else ():
        if json.loads(state.read_text()).get("_indices_files"):
            raise InputError(f"{state} selects rows by indices; expected a data set saved after flatten_indices()")
    return files


def _read(path: Path) -> _Table:
    if path.suffix == ".csv":
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.reader(file, strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read ({error}); expected UTF-8 with {WANTED}") from error
        if wrong := [number for number, row in enumerate(rows, 1) if row and len(row) != len(rows[0])]:
            raise InputError(f"{path} row {wrong[0]} has other columns than the first row; expected {WANTED}")
        filled = [row for row in rows if row]
        return _Table(
            {name: [row[at] for row in filled[1:]] for at, name in enumerate(filled[0] if filled else ())}, {}
        )
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f'reading {path} needs pyarrow, which is not installed; run: pip install "mixup_jax[text]"')
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.ParquetFile(path).read()
        else:
            with path.open("rb") as file:
                table = pyarrow.ipc.open_stream(file).read_all()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a table with {WANTED}") from error
    noted = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    return _Table(table.to_pydict(), noted.get("info", {}).get("features", {}))


def _split_of(path: Path, root: Path) -> str:
    words = re.split(r"[^a-z]+", str(path.relative_to(root.parent if root == path else root)).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "all")


def _label_column(table: _Table, path: Path) -> str:
    classes = [name for name, kind in table.features.items() if isinstance(kind, dict) and "names" in kind]
    found = [name for name in ("label", "labels") if name in table.columns] or classes
    if len(found) != 1:
        raise InputError(f"{path} has the columns {', '.join(table.columns)}; expected {WANTED}")
    return found[0]


def _labels(values: list[Any], path: Path) -> list[Any]:
    if any(isinstance(value, list | dict) for value in values):
        raise InputError(
            f"{path} has several classes an example, which is not supported; expected one class an example"
        )
    if any(value is None or value == "" for value in values):
        raise InputError(f"{path} has rows without a label; expected one class an example")
    if any(isinstance(value, float) for value in values):
        raise InputError(f"{path} has fractions as labels; expected one class an example, whole numbers or names")
    if all(isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) for value in values):
        return [int(value) for value in values]  # in a CSV file numbers are text
    return values


def _images(table: _Table, path: Path) -> list[bytes]:
    values = next((table.columns[name] for name in ("image", "img", "images") if name in table.columns), None)
    if values is None:
        raise InputError(f"{path} has the columns {', '.join(table.columns)}; expected {WANTED}")
    images: list[Any] = [value.get("bytes") if isinstance(value, dict) else value for value in values]
    if not all(isinstance(image, bytes) for image in images):
        raise InputError(f"{path} has images that are not in the file itself; expected the bytes of each image")
    return images
