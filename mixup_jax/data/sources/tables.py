"""Tables on disk: data sets of Hugging Face (parquet, or what `save_to_disk` writes), and texts in a CSV file."""

import contextlib
import csv
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixup_jax.data.sources import SPLITS, Blocks, Found, Rows, scratch, stamp_of
from mixup_jax.errors import InputError
from mixup_jax.runs.files import parse, read_object
from mixup_jax.runs.tables import PAGES

ENDINGS = (".parquet", ".arrow", ".csv")
ROWS_AT_ONCE = 64
WANTED = "a column `image` (as the library `datasets` writes it) or `text`, and a column `label`"


@dataclass(frozen=True)
class _Table:
    """A file's columns.

    Attributes:
      names: of the columns.
      features: the types that the library `datasets` noted in the file.
      read: yields some rows after the other of these columns.
    """

    names: Sequence[str]
    features: dict[str, Any]
    read: Callable[[Sequence[str]], Iterator[Mapping[str, list[Any]]]]


def stamp(place: str, data_dir: Path) -> str:
    """Returns a string that changes when the files do."""
    return stamp_of(_files(place))


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Reads the tables of a data set; needs pyarrow, except for CSV files.  Images are brought to a file of their own.

    The split of a file is the word in its path that names one, such as `train-00000-of-00001.parquet` or
    `test/data-00000-of-00001.arrow`.
    """
    root, names, task = Path(place).expanduser(), None, ""
    items: dict[str, Any] = {}
    labels: dict[str, list[Any]] = {}
    for path in _files(place):
        table, split = _open(path), _split_of(path, root)
        label = [_label_column(table, path)] if labelled else []
        task = task or ("text" if "text" in table.names else "image")
        column = _input_column(table, path, task)
        kept = items.setdefault(split, [] if task == "text" else _Packed(data_dir))
        values: list[Any] = []
        for some in table.read([column, *label]):
            kept.extend(_texts(some[column]) if task == "text" else _files_in(some[column], path))
            values += some[label[0]] if labelled else []
        if labelled:
            labels.setdefault(split, []).extend(_labels(values, path))
            names = names or _class_names(table.features.get(label[0], {}).get("names"))
    splits = {
        split: Rows(rows.blocks() if isinstance(rows, _Packed) else rows, labels.get(split))
        for split, rows in items.items()
    }
    return Found(splits, names, task)


def _class_names(noted: Any) -> tuple[str, ...] | None:
    texts = isinstance(noted, list) and all(isinstance(name, str) for name in noted)
    return tuple(noted) if texts and noted else None


class _Packed:
    """Images in a file, one after the other."""

    def __init__(self, data_dir: Path) -> None:
        self._file, self._sizes = scratch(data_dir), list[int]()

    def extend(self, images: Iterable[bytes]) -> None:
        """Appends images."""
        for image in images:
            self._file.write(image)
            self._sizes.append(len(image))

    def blocks(self) -> Blocks:
        """Returns all images."""
        self._file.flush()
        sizes = np.array(self._sizes, np.int64)
        return Blocks(self._file, np.cumsum(sizes) - sizes, sizes)


def _files(place: str) -> list[Path]:
    root = Path(place).expanduser()
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix in ENDINGS)
    if not files:
        raise InputError(f"{place} holds no {', '.join(ENDINGS)}; expected tables with {WANTED}")
    for state in root.rglob("state.json") if root.is_dir() else ():
        if read_object(state).get("_indices_files"):
            raise InputError(f"{state} selects rows by indices; expected a data set saved after flatten_indices()")
    return files


def _open(path: Path) -> _Table:
    if path.suffix == ".csv":
        return _of_csv(path)
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f'reading {path} needs pyarrow, which is not installed; run: pip install "mixup_jax[text]"')
    import pyarrow
    import pyarrow.parquet

    is_parquet = path.suffix == ".parquet"
    # A batch of Arrow's may be as large as the file, but the system reads only what is used of it.
    opened = pyarrow.OSFile if is_parquet else pyarrow.memory_map

    def read(columns: Sequence[str]) -> Iterator[dict[str, list[Any]]]:
        with _named(path), opened(str(path)) as file:
            if is_parquet:
                table = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=PAGES)
                batches = table.iter_batches(ROWS_AT_ONCE, columns=list(columns), use_threads=False)
            else:
                batches = (batch.select(list(columns)) for batch in pyarrow.ipc.open_stream(file))
            for batch in batches:
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield batch.slice(start, ROWS_AT_ONCE).to_pydict()

    with _named(path), opened(str(path)) as file:
        schema = pyarrow.parquet.read_schema(file) if is_parquet else pyarrow.ipc.open_stream(file).schema
    return _Table(schema.names, _features((schema.metadata or {}).get(b"huggingface", b"{}")), read)


def _features(noted: bytes) -> dict[str, Any]:
    """Returns the types of the columns that the library `datasets` noted; none where the note is not its own."""
    try:
        features = parse(noted)["info"]["features"].items()
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {name: feature for name, feature in features if isinstance(feature, dict)}


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Names the file in the errors of pyarrow."""
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a table with {WANTED}") from error


def _of_csv(path: Path) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); expected UTF-8 with {WANTED}") from error
    if wrong := [number for number, row in enumerate(rows, 1) if row and len(row) != len(rows[0])]:
        raise InputError(f"{path} row {wrong[0]} has other columns than the first row; expected {WANTED}")
    filled = [row for row in rows if row]
    columns = {name: [row[at] for row in filled[1:]] for at, name in enumerate(filled[0] if filled else ())}
    return _Table(list(columns), {}, lambda names: iter([columns]))


def _split_of(path: Path, root: Path) -> str:
    words = re.split(r"[^a-z]+", str(path.relative_to(root.parent if root == path else root)).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "all")


def _label_column(table: _Table, path: Path) -> str:
    classes = [name for name, kind in table.features.items() if "names" in kind]
    found = [name for name in ("label", "labels") if name in table.names] or classes
    if len(found) != 1:
        raise InputError(f"{path} has the columns {', '.join(table.names)}; expected {WANTED}")
    return found[0]


def _input_column(table: _Table, path: Path, task: str) -> str:
    usual = ("text",) if task == "text" else ("image", "img", "images")
    found = next((name for name in usual if name in table.names), None)
    if found is None:
        raise InputError(f"{path} has the columns {', '.join(table.names)}; expected {WANTED}")
    return found


def _texts(values: Iterable[Any]) -> list[str]:
    return [" ".join(str(text).split()) for text in values]


def _files_in(values: Iterable[Any], path: Path) -> list[bytes]:
    """Returns the image files in a column."""
    images: list[Any] = [value.get("bytes") if isinstance(value, dict) else value for value in values]
    if not all(isinstance(image, bytes) for image in images):
        raise InputError(f"{path} has images that are not in the file itself; expected the bytes of each image")
    return images


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
