"""Records of predictions from files of other tools: `.npy`, CSV, Parquet and torch's `.pt`, besides `.npz`.

Each reader only finds the numbers; `Predictions` checks them, so every format has the same rules.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, not_a_file, unknown_name
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, UNREADABLE, check_size, map_npy
from mixup_jax.runs.records import Predictions, load_record, logits_of_probabilities, no_labels

Array = npt.NDArray[Any]
_LABEL = "label"
_COLUMN = f"a column {_LABEL!r}, with -1 for an example without one"
_LABELS_OF = {".csv": _COLUMN, ".parquet": _COLUMN, ".pt": "{'logits': .., 'labels': ..}"}
LARGEST_FOOTER = 1 << 20
"""Bytes of a text, and number of entries of a list, in the metadata of a Parquet file."""


def load_predictions(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    probabilities: bool = False,
    labelled: bool = True,
    limit: int = DEFAULT_LIMIT,
) -> Predictions:
    """Returns the record that a file holds; its suffix says which format it is in.

    | suffix | content |
    | --- | --- |
    | `.npz` | arrays `logits` [N, K] and `labels` [N], and `meta` if there is any (see `load_record`) |
    | `.npy` | logits [N, K], memory-mapped; labels [N] in a second `.npy`, or none |
    | `.csv` | a header line; a column `label`, and a column for each class |
    | `.parquet` | the same columns (needs pyarrow) |
    | `.pt` | a dict of tensors `logits` and `labels`, saved by `torch.save` (needs torch; nothing is unpickled) |

    Columns of classes are named 0, 1, .., K-1, all with the same text before the number or with none (`logit_0`,
    `logit_1`, ..), in any order.  A column that is neither is refused, because it might be taken for a class.

    Args:
      path: the file.
      labels: an `.npy` of integers [N]; for `.npy` only, where None means that no example has a label.
      probabilities: the numbers are probabilities, not logits; this is never guessed.
      labelled: labels must be there; else, as for out-of-distribution examples, no example has one where the file
        has none.
      limit: bytes that the arrays may take in memory; an `.npy` of logits takes none.

    Raises:
      InputError: the file is missing, damaged, too large, in another format, or breaks what `Predictions`
        promises; the message names the file.
    """
    path, labels = Path(path), None if labels is None else Path(labels)
    readers: dict[str, Callable[[Path, int], tuple[Array, Array | None]]] = {
        ".csv": _read_csv,
        ".parquet": _read_parquet,
        ".pt": _read_torch,
    }
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".npy", *readers):
        raise unknown_name("format of predictions", suffix or path.name, (".npz", ".npy", *readers))
    if labels is not None and suffix != ".npy":
        raise InputError(f"labels file {labels} given for {path}; expected one only for an .npy, others hold labels")
    if labels is not None and labels.suffix.lower() != ".npy":
        raise InputError(f"labels file {labels} is not an .npy; expected integers [N] written by numpy.save")
    if suffix == ".npz":
        return load_record(path, probabilities=probabilities, labelled=labelled, limit=limit)
    logits, classes = _read_npy(path, labels) if suffix == ".npy" else _read(path, limit, readers[suffix])
    if classes is None:
        if labelled:
            raise InputError(f"predictions file {path} lacks labels; expected {_LABELS_OF[suffix]}")
        classes = no_labels(logits)
    try:
        return Predictions(logits_of_probabilities(logits) if probabilities else logits, classes)
    except InputError as error:
        raise InputError(f"predictions file {path}: {error}") from error


def _read(path: Path, limit: int, reader: Callable[[Path, int], Any]) -> Any:
    """Returns the result of a reader for a file; every failure becomes one line that names the file."""
    if not path.is_file():
        raise InputError(f"predictions file {path} {not_a_file(path)}; expected .npz, .npy, .csv, .parquet or .pt")
    try:
        return reader(path, limit)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(
            f"predictions file {path} may not be read ({error.strerror}); expected a readable file"
        ) from error
    except (*UNREADABLE, csv.Error) as error:
        reason = " ".join(str(error).split())[:300]  # messages of libraries may span lines
        raise InputError(f"predictions file {path} cannot be read ({reason}); expected a {path.suffix} file") from error


def _read_npy(path: Path, labels: Path | None) -> tuple[Array, Array]:
    logits: Array = _read(path, 0, lambda file, _: map_npy(file))
    if labels is None:
        return logits, no_labels(logits)
    return logits, _read(labels, 0, lambda file, _: map_npy(file))


def _read_csv(path: Path, limit: int) -> tuple[Array, Array | None]:
    check_size(path, 4 * path.stat().st_size, limit)  # two characters, such as "0,", become a float64
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
        order = _class_columns(path, header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no data: the empty shape is refused below
            table = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2, comments=None, quotechar='"')
    if table.size == 0:
        table = table.reshape(0, len(header))
    if table.shape[1] != len(header):
        raise InputError(
            f"predictions file {path} has {len(header)} names but {table.shape[1]} columns; expected as many"
        )
    return table[:, order], _whole(path, table[:, header.index(_LABEL)]) if _LABEL in header else None


def _read_parquet(path: Path, limit: int) -> tuple[Array, Array | None]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(f"predictions file {path} needs pyarrow; expected `pip install pyarrow`, or a .csv") from error
    _require_version(path, "pyarrow", arrow.__version__, (14, 0, 1))
    try:
        with parquet.ParquetFile(
            path, thrift_string_size_limit=LARGEST_FOOTER, thrift_container_size_limit=LARGEST_FOOTER
        ) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            order = _class_columns(path, names)
            for column in file.schema_arrow:
                if not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
                    raise InputError(
                        f"predictions file {path}: column {column.name!r} is {column.type}; expected numbers"
                    )
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            declared = max(16 * rows * len(names), sum(group.total_byte_size for group in groups))
            check_size(path, declared, limit)
            table = file.read()
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error
    columns = [table.column(index).to_numpy() for index in order]  # missing values become NaN, which is refused
    with np.errstate(invalid="ignore"):  # for signalling NaNs; any NaN is refused later, with its position
        logits = np.stack([column.astype(np.float64) for column in columns], axis=1)
    return logits, _whole(path, table.column(_LABEL).to_numpy()) if _LABEL in names else None


def _read_torch(path: Path, limit: int) -> tuple[Array, Array | None]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"predictions file {path} needs torch to be read; expected `pip install torch`, or the arrays saved as .npz"
        ) from error
    _require_version(path, "torch", torch.__version__, (2, 6))
    if not zipfile.is_zipfile(path):
        raise ValueError("it is damaged, or in torch's format of before 1.6, a pickle: save it again with torch.save")
    with zipfile.ZipFile(path) as archive:
        check_size(path, sum(info.file_size for info in archive.infolist()), limit)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle.UnpicklingError and whatever torch's own reader raises
        # Not torch's message, which recommends to unpickle the file.
        raise ValueError(
            "torch.load with weights_only=True refuses it, so it is damaged or holds more than tensors"
        ) from error
    tensors: dict[str, Any] = content if isinstance(content, dict) else {}
    names = ["logits", *(["labels"] if "labels" in tensors else [])]
    for name in names:
        if not isinstance(tensors.get(name), torch.Tensor):
            raise InputError(f"predictions file {path} lacks a tensor {name}; expected {_LABELS_OF['.pt']}")
    found = {name: tensors[name].detach() for name in names}
    # A tensor may repeat its storage, so it can be larger than the file it came from.
    check_size(path, sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in found.values()), limit)
    logits = found["logits"]
    wide = logits.float() if logits.is_floating_point() and logits.element_size() < 4 else logits  # bfloat16
    return wide.numpy(), found["labels"].numpy() if "labels" in found else None


def _require_version(path: Path, package: str, found: str, least: tuple[int, ...]) -> None:
    """Raises InputError for a version of a package with which a file could run code."""
    if tuple(int(part) for part in re.findall(r"[0-9]+", found)[: len(least)]) < least:
        expected = ".".join(map(str, least))
        raise InputError(
            f"predictions file {path} is not read with {package} {found}, in which such a file could run code; "
            f"expected at least {expected}: pip install '{package}>={expected}'"
        )


def _class_columns(path: Path, names: Sequence[str]) -> list[int]:
    """Returns the positions of the columns of classes 0 .. K-1, in this order."""
    if names.count(_LABEL) > 1:
        raise InputError(f"predictions file {path} has {names.count(_LABEL)} columns named {_LABEL!r}; expected one")
    places: dict[tuple[str, int], int] = {}
    for place, name in enumerate(names):
        match = re.fullmatch(r"(.*?)(0|[1-9][0-9]{0,8})", name)
        if name == _LABEL:
            continue
        if match is None:
            raise InputError(
                f"predictions file {path}: column {name[:40]!r} is neither {_LABEL!r} nor a class; "
                "expected classes named 0, 1, .. with or without a text before the number, such as logit_0"
            )
        if (match[1], int(match[2])) in places:
            raise InputError(f"predictions file {path} has two columns named {name[:40]!r}; expected one")
        places[match[1], int(match[2])] = place
    prefix = next(iter(places), ("", 0))[0]
    classes = len(names) - names.count(_LABEL)
    missing = [f"{prefix}{number}" for number in range(max(classes, 2)) if (prefix, number) not in places]
    if missing:
        raise InputError(
            f"predictions file {path} lacks the column {missing[0][:40]!r} (it has {classes} besides {_LABEL!r}); "
            "expected a column for each class, numbered from 0"
        )
    return [places[prefix, number] for number in range(classes)]


def _whole(path: Path, labels: Array) -> Array:
    """Returns labels as int64, which CSV (and pandas, where one is missing) has as floating point."""
    if np.issubdtype(labels.dtype, np.integer):
        return labels
    with np.errstate(invalid="ignore"):
        values = labels.astype(np.float64)
    wrong = ~((np.abs(values) < 2.0**31) & (values == np.rint(values)))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(f"predictions file {path}: label {values[first]} of example {first} is not a whole number")
    return values.astype(np.int64)
