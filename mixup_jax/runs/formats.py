"""Records of predictions from files of other tools: `.npy`, CSV, Parquet, Arrow and torch's `.pt`, besides `.npz`.

Each reader only finds the numbers; `Predictions` checks them, so every format has the same rules.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, not_a_file, unknown_name
from mixup_jax.escapes import print_line
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, check_size, explained, from_bfloat16, map_npy
from mixup_jax.runs.names import LABEL, LABELS_NAMES, Reading, chosen_name, columns_of, listed, names_of
from mixup_jax.runs.records import (
    BESIDE,
    ROWS_BY_IMAGE,
    Predictions,
    fields_beside,
    logits_of_probabilities,
    no_labels,
    parsed_meta,
    read_entries,
    wanted_beside,
)
from mixup_jax.runs.tables import Columns, read_arrow, read_csv, read_parquet
from mixup_jax.runs.torch_file import read_tensor, read_torch

Array = npt.NDArray[Any]
_COLUMN = f"a column {LABEL!r}, with -1 for an example without one"
TABLES = {".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet, ".arrow": read_arrow}
FORMATS = (".npz", ".npy", *TABLES, ".csv.gz", ".pt", ".pth")


class _Found(NamedTuple):
    """What a file holds, what is to be said about how it was read, and the names of its arrays, if they have names.

    `beside` holds further fields of `Predictions`.
    """

    logits: Array
    labels: Array | None
    said: Sequence[str] = ()
    names: Sequence[str] = ()
    meta: Mapping[str, Any] = MappingProxyType({})
    beside: Mapping[str, Any] = MappingProxyType({})


def load_predictions(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    probabilities: bool = False,
    labelled: bool = True,
    features: bool = False,
    groups: bool = False,
    limit: int = DEFAULT_LIMIT,
    logits_key: str | None = None,
    labels_key: str | None = None,
    flatten: bool = False,
    ignore_label: int | None = None,
    classes: int | None = None,
    say: Callable[[str], None] = print_line,
) -> Predictions:
    """Returns the record that a file holds; its suffix says which format it is in.

    | suffix | content |
    | --- | --- |
    | `.npz` | arrays `logits` [N, K] and `labels` [N], and `meta` if there is any (see `load_record`) |
    | `.npy` | logits [N, K], memory-mapped; labels [N] in a second file, or none |
    | `.csv`, `.tsv`, `.csv.gz` | a header line; a column `label`, and one for each class; `,`, `;` or tabs between |
    | `.parquet`, `.arrow` | the same columns, or one whose rows are lists (needs pyarrow) |
    | a folder | a data set that the library `datasets` saved to disk, of the same columns (needs pyarrow) |
    | `.pt`, `.pth` | tensors `logits` and `labels` in a dict or a tuple, by `torch.save` (torch is not needed) |

    Columns of classes are named 0, 1, .., K-1, all with the same text before the number or with none (`logit_0`,
    `logit_1`, ..), in any order.  A column that is neither is refused, because it might be taken for a class; only
    that of an index (such as `id`, or one without a name) is left out.  Without keys, the usual names are tried.
    bfloat16 becomes float32.

    Args:
      path: the file.
      labels: an `.npy`, `.pt` or `.pth` of integers [N], for a file of logits alone; None where no example has a label.
      probabilities: the numbers are probabilities, not logits; this is never guessed.
      labelled: labels must be there; else, as for out-of-distribution examples, no example has one where the file
        has none.
      features: an `.npz` is also read for features and the last layer, as by `load_record`.
      groups: an `.npz` is also read for `groups` [N].
      limit: bytes that the arrays may take in memory; an `.npy` of logits takes none.
      logits_key: the name of the logits, or what the names of the columns of classes begin with.
      labels_key: the name of the labels.
      flatten: the logits are `[N, K, ..]` (or `[N, .., K]`), as of segmentation, and the labels `[N, ..]`; each
        position becomes an example, and `meta["rows_by_image"]` says how many each of the N contributes.
      ignore_label: examples with this label are left out.
      classes: K, which tells with `flatten` where the classes of logits without labels are.
      say: takes a line if a name was chosen that is not plainly `logits` or `labels`, or a column was left out.

    Raises:
      InputError: the file is missing, damaged, too large, in another format, or breaks what `Predictions`
        promises; the message names the file.
    """
    path, labels = Path(path), None if labels is None else Path(labels)
    reading = Reading(logits_key, labels_key, flatten, ignore_label, limit, labelled, features, groups, classes)
    suffix = _suffix(path)
    found = _read(path, lambda: _find(path, suffix, reading))
    of_rows = found.labels
    if labels is not None:
        if of_rows is not None:
            raise InputError(
                f"labels file {labels} given for {path}, which holds labels; expected one only for logits alone"
            )
        of_rows = _labels_file(labels, limit)
    elif suffix == ".npy":
        labelled = False
    if of_rows is None and labelled:
        holds = f" (it holds {listed(found.names)})" if found.names else ""
        expected = "labels [N]" if found.names else _COLUMN
        raise InputError(
            f"predictions file {path} lacks labels{holds}; expected {expected}, or --labels_key to name them"
        )
    try:
        record = as_record(found.logits, of_rows, reading, path, found.meta, probabilities=probabilities)
        if found.beside:
            if flatten or ignore_label is not None:
                given = ", ".join(found.beside)
                raise InputError(f"{given} belong to whole records; expected neither --flatten nor --ignore_label")
            record = replace(record, **found.beside)
    except InputError as error:
        raise InputError(f"predictions file {path}: {error}") from error
    if found.said:
        say(f"{path}: {'; '.join(found.said)}")
    return record


def as_record(
    logits: Array,
    labels: Array | None,
    reading: Reading,
    name: Path | str,
    meta: Mapping[str, Any],
    *,
    probabilities: bool = False,
) -> Predictions:
    """Returns the record of some arrays, flattened and without the label to ignore, as `reading` says."""
    if logits.dtype.itemsize == 2 and logits.dtype.kind in "Vf":  # becomes float32; V is what numpy makes of bfloat16
        check_size(name, 4 * logits.size, reading.limit)
        logits = from_bfloat16(logits) if logits.dtype.kind == "V" else logits
    images = len(logits) if logits.ndim else 0
    if reading.flatten:
        logits, labels = _flattened(logits, labels, reading, name)
    elif logits.ndim > 2:
        raise InputError(
            f"logits have shape {list(logits.shape)}; expected [N, K]; "
            "with --flatten (flatten=True) each position is an example"
        )
    kept = None
    if reading.ignore_label is not None and labels is not None and labels.shape == logits.shape[:1]:
        kept = labels != reading.ignore_label
        logits, labels = logits[kept], labels[kept]
    meta = dict(meta)
    if reading.flatten:
        by_image = np.full(images, len(logits) // max(images, 1)) if kept is None else kept.reshape(images, -1).sum(1)
        meta[ROWS_BY_IMAGE] = by_image.tolist()
    classes = no_labels(logits) if labels is None else labels
    return Predictions(logits_of_probabilities(logits) if probabilities else logits, classes, meta)


def _flattened(logits: Array, labels: Array | None, reading: Reading, name: Path | str) -> tuple[Array, Array | None]:
    """Returns logits `[N * positions, K]` and labels `[N * positions]`."""
    if logits.ndim < 3 or 0 in logits.shape:
        raise InputError(f"logits have shape {list(logits.shape)}, nothing to flatten; expected [N, K, ..]")
    shape, axis = logits.shape, 1
    if labels is not None and labels.shape != (shape[0], *shape[2:]):
        if labels.shape != shape[:-1]:
            raise InputError(
                f"labels have shape {list(labels.shape)}; expected {[shape[0], *shape[2:]]}, one for each position"
            )
        axis = -1
    if labels is None and reading.classes is not None and shape[-1] == reading.classes:
        if shape[1] == reading.classes:
            raise InputError(
                f"logits have shape {list(shape)}, of which two sizes are the number of classes; expected labels of "
                "-1, whose shape tells classes from positions"
            )
        axis = -1
    check_size(name, max(logits.itemsize, 4) * logits.size, reading.limit)
    flat = np.moveaxis(logits, axis, -1).reshape(-1, shape[axis])
    return flat, None if labels is None else labels.reshape(-1)


def load_vectors(
    path: Path, wanted: Mapping[str, Sequence[str]], *, alone: str, limit: int = DEFAULT_LIMIT
) -> dict[str, Array]:
    """Returns those of some vectors `[N]` that a file holds, by what they are.

    `wanted` has the names that are tried for each; an `.npy`, or a file of one tensor, holds the one called `alone`.
    """

    def places(names: Sequence[str]) -> dict[str, str]:
        """Returns the names of the vectors that are there."""
        chosen = {what: chosen_name(path, names, what, None, usual) for what, usual in wanted.items()}
        found = {what: name for what, name in chosen.items() if name is not None}
        if not found:
            raise InputError(f"predictions file {path} holds {listed(names)}; expected one of {', '.join(wanted)}")
        return found

    def find() -> dict[str, Array]:
        if suffix == ".npy":
            return {alone: map_npy(path)}
        if suffix == ".npz":
            there = places(read_entries(path, (), limit)[1])
            entries, _ = read_entries(path, list(there.values()), limit)
            return {what: entries[name] for what, name in there.items()}
        if suffix in (".pt", ".pth"):
            tensors = read_torch(path)
            there = {alone: "tensor"} if list(tensors) == ["tensor"] else places(list(tensors))
            return {what: read_tensor(path, tensors[name], limit) for what, name in there.items()}
        of_table: dict[str, str] = {}

        def choose(names: Sequence[str], _: frozenset[int]) -> Columns:
            of_table.update(places(names))
            return Columns([], [names.index(name) for name in of_table.values()])

        table = TABLES[suffix.removesuffix(".gz")](path, choose, limit)
        return dict(zip(of_table, table.vectors, strict=True))

    suffix = _suffix(path)
    found: dict[str, Array] = _read(path, find)
    return found


def _suffix(path: Path) -> str:
    """Returns the suffix that says a file's format; ".arrow" for a folder of the library `datasets`."""
    if (path / "state.json").is_file():
        return ".arrow"
    name = path.name.lower()
    suffix = next((suffix for suffix in (".csv.gz", ".tsv.gz") if name.endswith(suffix)), path.suffix.lower())
    if suffix.removesuffix(".gz") not in FORMATS:
        raise unknown_name("format of predictions", suffix or path.name, FORMATS)
    return suffix


def _read(path: Path, reader: Callable[[], Any]) -> Any:
    """Returns the result of a reader for a file; every failure becomes one line that names the file."""
    if not path.is_file() and not (path / "state.json").is_file():
        raise InputError(f"predictions file {path} {not_a_file(path)}; expected .npz, .npy, .csv, .parquet or .pt")
    with explained(path, f"a {path.suffix} file"):
        return reader()


def _find(path: Path, suffix: str, reading: Reading) -> _Found:
    if suffix == ".npy":
        return _Found(map_npy(path), None)
    if suffix == ".npz":
        _, names = read_entries(path, (), reading.limit)
        logits, labels, said = names_of(path, [name for name in names if name not in ("meta", *BESIDE)], reading)
        beside = wanted_beside(features=reading.features, groups=reading.groups)
        entries, _ = read_entries(path, [name for name in (logits, labels, "meta", *beside) if name], reading.limit)
        try:
            meta, fields = parsed_meta(entries.get("meta")), fields_beside(entries)
        except InputError as error:
            raise InputError(f"predictions file {path}: {error}") from error
        return _Found(entries[logits], entries[labels] if labels else None, said, names, meta, fields)
    if suffix in (".pt", ".pth"):
        tensors = read_torch(path)
        logits, labels, said = names_of(path, list(tensors), reading)
        arrays = [read_tensor(path, tensors[name], reading.limit) for name in (logits, labels) if name]
        return _Found(arrays[0], arrays[1] if labels else None, said, list(tensors))
    said_of_columns: list[str] = []

    def choose(names: Sequence[str], of_lists: frozenset[int]) -> Columns:
        columns, said = columns_of(path, names, of_lists, reading)
        said_of_columns[:] = said
        return columns

    table = TABLES[suffix.removesuffix(".gz")](path, choose, reading.limit)
    return _Found(table.matrix, _whole(path, table.vectors[0]) if table.vectors else None, said_of_columns)


def _labels_file(path: Path, limit: int) -> Array:
    if path.suffix.lower() not in (".npy", ".pt", ".pth"):
        raise InputError(f"labels file {path} is not an .npy; expected integers [N] written by numpy.save")
    if path.suffix.lower() == ".npy":
        return np.asarray(_read(path, lambda: map_npy(path)))

    def tensor() -> Array:
        tensors = read_torch(path)
        name = chosen_name(path, list(tensors), "labels", None, LABELS_NAMES)
        if name is None:
            raise InputError(f"labels file {path} holds {listed(list(tensors))}; expected one tensor of integers [N]")
        return read_tensor(path, tensors[name], limit)

    return np.asarray(_read(path, tensor))


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
