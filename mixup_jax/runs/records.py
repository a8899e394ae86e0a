"""Records of predictions: logits and labels in one `.npz` file, never pickled.

This module imports numpy but not jax, so that a predictions file can be read and evaluated without waiting
for jax to start.
"""

import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, not_a_file
from mixup_jax.escapes import is_plain
from mixup_jax.metrics.features import Training, check_features
from mixup_jax.metrics.logits import SUM_TOLERANCE, UNLABELLED, check_labels, check_logits, row_maxima
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, explained, read_npz
from mixup_jax.runs.files import LARGEST, MIB, shown, unique, write_atomically

MOST_ROUNDING = 0.5
"""The largest allowed distance between 1 and the sum of a row of rounded probabilities, for any number of classes."""

OF_TRAINING = ("train_features", "train_labels", "head_kernel", "head_bias")
"""The entries of a file that are the fields of `Training`, in their order."""
BESIDE = ("features", "groups", *OF_TRAINING)
MAPPABLE = ("features", "train_features")

LARGEST_LOGIT = 1e100
"""The largest allowed logit: far beyond that of any network, and far enough from overflow for all sums."""

ROWS_BY_IMAGE = "rows_by_image"
"""Key of `meta`: how many examples each image has, where examples are the pixels of images, one image after another."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network on one data set, from which every metric is computed.

    Attributes:
      logits: float32 (or float64) `[N, K]`, N >= 1, K >= 2.  Any constant may be added to a row;
        logarithms of probabilities serve as well.  -inf marks an impossible class.
      labels: int32 `[N]` in [-1, K); -1 for an example without a label, such as an
        out-of-distribution one.
      meta: JSON-serialisable facts about the origin: `dataset`, `split`, `step`, `config`,
        `versions`, `seed`, `device_count`.  Empty for a file from elsewhere.
      features: float16 (or wider) `[N, D]`, the input of the network's last layer; None where nobody asked for it.
      groups: whole numbers or texts `[N]`, a group of each example, of which accuracy and calibration are wanted.
      training: features of training examples and the last layer, which scores of features are fitted on.
    """

    logits: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int32]
    meta: dict[str, Any] = field(default_factory=dict)
    features: npt.NDArray[np.floating] | None = None
    training: Training | None = None
    groups: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        logits = check_logits(np.asarray(self.logits))
        _check_magnitude(logits)
        labels = check_labels(np.asarray(self.labels), *logits.shape)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels)
        if self.groups is not None and (self.groups.shape != labels.shape or self.groups.dtype.kind not in "iuU"):
            raise InputError(
                f"groups have shape {list(self.groups.shape)} and dtype {self.groups.dtype}; expected whole numbers or "
                f"texts [{len(labels)}], one for each example"
            )
        if self.groups is not None and self.groups.dtype.kind == "U":
            _check_characters("groups", self.groups)
        if self.features is not None:
            check_features("features", self.features)
            if len(self.features) != len(logits):
                raise InputError(f"features have {len(self.features)} rows; expected {len(logits)}, as the logits have")

    @property
    def name(self) -> str:
        """`dataset/split`, or an empty string if the origin is unknown."""
        parts = (self.meta.get("dataset"), self.meta.get("split"))
        return "/".join(str(part) for part in parts if part)


def _check_magnitude(logits: npt.NDArray[np.floating]) -> None:
    largest = row_maxima(logits)
    row = int(np.abs(largest).argmax())
    if abs(float(largest[row])) > LARGEST_LOGIT:
        raise InputError(
            f"row {row} of logits has the largest value {largest[row]:g}; expected a magnitude of at most "
            f"{LARGEST_LOGIT:g}, beyond which sums over examples leave float64"
        )


def save_predictions(path: str | os.PathLike[str], predictions: Predictions) -> None:
    """Writes a record as a compressed `.npz` with the entries `logits`, `labels` and `meta` (JSON text).

    Features, if there are any, are written in float16 and without compression, so that they can be memory-mapped.
    The file appears whole or not at all, and the same record gives the same bytes.  Raises OSError where the
    folder cannot be written, and ValueError for NaN or infinity in `meta`, which are not JSON.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "logits": predictions.logits,
        "labels": predictions.labels,
        "meta": np.array(json.dumps(predictions.meta, allow_nan=False)),
    }
    if predictions.groups is not None:
        arrays["groups"] = predictions.groups
    if predictions.features is not None:
        arrays["features"] = predictions.features.astype(np.float16)
    if (training := predictions.training) is not None:
        given = (training.features.astype(np.float16), training.labels, training.kernel, training.bias)
        arrays |= {name: array for name, array in zip(OF_TRAINING, given, strict=True) if array is not None}
    write_arrays(path, arrays)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes arrays without objects as a compressed `.npz`: whole or not at all, and the same bytes for the same."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # With the first date of the ZIP format instead of the current one: the same record gives the same bytes,
            # and a clock set before 1980, which ZIP cannot represent, is no problem.
            with archive.open(_member(f"{name}.npy", name in MAPPABLE), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    write_atomically(Path(path), buffer.getvalue())


def _member(name: str, stored: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    return info


def logits_of_probabilities(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the logarithms of probabilities `[N, K]`, float64, each row divided by its sum; 0 becomes -inf.

    Sums within 1 % of 1 are taken for rounding; of numbers in 2 to 5 decimals, those within K - 1 units of the last.

    Raises:
      InputError: no matrix of floating point, a number outside [0, 1] or NaN, or a row whose sum is further from 1.
    """
    if probabilities.ndim != 2 or not np.issubdtype(probabilities.dtype, np.floating):
        raise InputError(
            f"probabilities have shape {list(probabilities.shape)} and dtype {probabilities.dtype}; "
            "expected floating point [N, K]"
        )
    with np.errstate(invalid="ignore"):
        values = probabilities.astype(np.float64)
    inside: npt.NDArray[np.bool_] = np.all((values >= 0) & (values <= 1), axis=1)
    sums = values.sum(axis=1)
    wrong = ~(inside & (np.abs(sums - 1) <= sum_tolerance(values)))
    if wrong.any():
        row = int(np.argmax(wrong))
        found = f"sums to {sums[row]:.6g}" if inside[row] else "holds a number outside [0, 1]"
        percent = (values[row] >= 0).all() and abs(sums[row] - 100) <= 100 * sum_tolerance(values / 100)
        hint = " (percentages: divide them by 100)" if percent else ""
        raise InputError(f"row {row} of probabilities {found}; expected numbers from 0 to 1 whose sum is 1{hint}")
    with np.errstate(divide="ignore"):
        return np.log(values) - np.log(sums)[:, None]


def sum_tolerance(values: npt.NDArray[np.float64]) -> float:
    """Returns the allowed distance of the sums of rows of probabilities `[N, K]` from 1: that of rounding, or 1 %."""
    # .99 and 1.01 in two decimals are within 1 %
    return max(SUM_TOLERANCE, min(_rounding_of_sums(values), MOST_ROUNDING)) + 1e-6


def _rounding_of_sums(values: npt.NDArray[np.float64]) -> float:
    """Returns the most that rounding to few decimals changes a sum, K - 1 units of the last; 0 for full precision."""
    for decimals in range(2, 6):
        scaled = values * 10**decimals
        if np.all(np.abs(scaled - np.rint(scaled)) < 1e-2):  # float32 has 4 decimals to 1e-3 of their last unit
            return float((values.shape[1] - 1) * 10.0**-decimals)
    return 0.0


def no_labels(logits: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Returns `UNLABELLED` for each row of some logits, int32 `[N]`."""
    return np.full(len(logits) if logits.ndim else 0, UNLABELLED, np.int32)


def load_record(
    path: str | os.PathLike[str],
    *,
    features: bool = False,
    groups: bool = False,
    limit: int = DEFAULT_LIMIT,
) -> Predictions:
    """Reads a record that was written by `save_predictions`, or by any other program with `numpy.savez`.

    Args:
      path: an `.npz` with `logits` `[N, K]` and `labels` `[N]`; `meta` (JSON text) may be absent.
      features: whether to read `features` `[N, D]`, `train_features` `[M, D]`, `train_labels` `[M]`, `head_kernel`
        `[D, K]` and `head_bias` `[K]` too, as far as they are there; large ones are memory-mapped.
      groups: whether to read `groups` `[N]` too.
      limit: bytes that the arrays may take in memory; what the file claims is checked before it is decompressed.
    """
    path = Path(path)
    wanted = ("logits", "labels", "meta", *wanted_beside(features=features, groups=groups))
    entries, names = read_entries(path, wanted, limit)
    missing = [name for name in ("logits", "labels") if name not in entries]
    if missing:
        found = ", ".join(shown(name) for name in names[:8]) or "nothing"
        raise InputError(
            f"predictions file {path} lacks {' and '.join(missing)} (it holds {found}); expected logits and labels"
        )
    try:
        meta = parsed_meta(entries.get("meta"))
        return Predictions(entries["logits"], entries["labels"], meta, **fields_beside(entries))
    except InputError as error:
        raise InputError(f"predictions file {path}: {error}") from error


def wanted_beside(*, features: bool, groups: bool) -> Sequence[str]:
    """Returns the entries of an `.npz` to read besides logits, labels and meta."""
    return (*(("features", *OF_TRAINING) if features else ()), *(("groups",) if groups else ()))


def fields_beside(entries: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Returns those fields of `Predictions` besides logits, labels and meta that the entries of an `.npz` give."""
    found: dict[str, Any] = {name: entries[name] for name in ("features", "groups") if name in entries}
    if "train_features" in entries:
        found["training"] = Training(*(entries.get(name) for name in OF_TRAINING))  # type: ignore[arg-type]  # it checks them
    return found


def read_entries(path: Path, wanted: Sequence[str], limit: int) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Returns what `arrays_file.read_npz` does; every failure is an InputError that names the file."""
    if not path.is_file():
        raise InputError(
            f"predictions file {path} {not_a_file(path)}; expected an .npz with logits [N, K] and labels [N]"
        )
    with explained(path, "an .npz of plain arrays without pickled objects"):
        return read_npz(path, wanted, limit, mapped=MAPPABLE)


def _check_characters(name: str, texts: npt.NDArray[Any]) -> None:
    marks = np.frombuffer(texts.tobytes(), np.dtype(np.uint32).newbyteorder(texts.dtype.byteorder))
    if marks.max(initial=0) > sys.maxunicode:  # numpy would make a str of it that Python cannot handle
        found = f"{marks.max():#x}"
        raise InputError(f"{name} holds the code point {found}, which is not a character; expected Unicode text")


def parsed_meta(entry: npt.NDArray[Any] | None) -> dict[str, Any]:
    """Returns the facts of an `.npz`'s entry `meta`, a JSON object; raises InputError if it is none."""
    if entry is None:
        return {}
    if entry.shape != () or entry.dtype.kind != "U":
        raise InputError(
            f"meta has shape {list(entry.shape)} and dtype {entry.dtype}; expected the text of a JSON object"
        )
    if entry.nbytes > LARGEST:
        raise InputError(f"meta has {entry.nbytes / MIB:.0f} MiB; expected at most {LARGEST // MIB}")
    _check_characters("meta", entry)
    try:
        # Python reads NaN and Infinity though they are not JSON; no file written from them could be read elsewhere.
        meta = json.loads(str(entry), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=unique)
        json.dumps(meta, ensure_ascii=False).encode()  # half of a surrogate pair cannot be printed
    except (ValueError, RecursionError) as error:
        raise InputError(f"meta is not JSON ({error}); expected the text of a JSON object") from error
    if not isinstance(meta, dict):
        raise InputError(f"meta is a {type(meta).__name__}; expected a JSON object")
    for name in ("dataset", "split"):
        if meta.get(name) is not None and not (isinstance(meta[name], str) and is_plain(meta[name])):
            raise InputError(f"meta.{name} is {shown(meta[name])}; expected a name of 1 to 200 printable characters")
    return meta


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} does not fit into float64")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
