"""Checks that records come from one network, and that validation and test records have different examples."""

import math

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import blocks, in_threads
from mixup_jax.runs.records import Predictions

MOST_SHARED = 0.01
"""The largest share of validation rows that may be test rows.

Data sets contain some images or sentences twice, far fewer than 1 %, and 1 % of a validation set changes a fitted
temperature by less than its standard error.  A leak, such as an overlapping split, shares far more rows.
"""
ALWAYS_ALLOWED = 2
"""This many shared rows are allowed in a larger set, because a small set may contain an image twice."""


def check_held_out(validation: Predictions, validation_name: str, test: Predictions, test_name: str) -> int:
    """Returns how many validation rows are test rows.

    Raises:
      InputError: more than MOST_SHARED of them are (and more than ALWAYS_ALLOWED, of a larger set), beyond those that
        are expected by coincidence; the two are named as the same split; or the record is of another network.
    """
    check_same_network(f"validation record {validation_name}", validation, test)
    same_split = validation.meta.get("split") is not None and validation_name == test_name
    shared, expected = shared_rows(validation, test)
    n = len(validation.labels)
    share = MOST_SHARED + expected + 3 * math.sqrt(expected * (1 - expected) / n)
    allowed = max(n * share, ALWAYS_ALLOWED if n > ALWAYS_ALLOWED else 0)
    if same_split or _identical(validation, test):
        found = "is the test record"
    elif shared > allowed:
        found = "is the test record" if shared == n == len(test.labels) else f"holds {shared} of the test record's rows"
    else:
        return shared
    raise InputError(
        f"validation record {validation_name} {found}; "
        "expected other data, since a temperature fitted on the test set would flatter it"
    )


def shared_rows(record: Predictions, test: Predictions) -> tuple[int, float]:
    """Returns how many rows of a record have the logits of a test row, and the share to be expected by coincidence.

    The latter is the share of test rows with the logits of another test row.  It is almost 0 for unrounded logits, and
    large if logits are rounded to few decimals or the same for all inputs.
    """
    ours, theirs = _row_hashes(record.logits), _row_hashes(test.logits)
    found, count = np.unique(theirs, return_counts=True)
    return int(np.isin(ours, found).sum()), float(count[count > 1].sum() / len(theirs))


def _row_hashes(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.uint64]:
    """Returns a hash of each row, equal for equal logits in float32 and float64, reading a block of rows at a time."""
    factors = np.random.default_rng(0).integers(0, 2**63, logits.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.empty(len(logits), np.uint64)

    def work(rows: slice) -> None:
        bits = (logits[rows].astype(np.float64) + 0.0).view(np.uint64)  # -0 becomes 0
        hashes[rows] = ((bits ^ (bits >> np.uint64(32))) * factors).sum(axis=1)

    in_threads(work, list(blocks(*logits.shape)))
    return hashes


def _identical(record: Predictions, other: Predictions) -> bool:
    # A block at a time, because both may be files larger than memory; stops at the first difference.
    return np.array_equal(record.labels, other.labels) and all(
        np.array_equal(record.logits[rows], other.logits[rows]) for rows in blocks(*record.logits.shape)
    )


def check_same_network(what: str, record: Predictions, test: Predictions) -> None:
    """Raises InputError if a record and the test record cannot be of the same network."""
    check_classes(what, record, test)
    for key in ("step", "config"):
        ours, theirs = test.meta.get(key), record.meta.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            found = f"{theirs} instead of {ours}" if key == "step" else "another one"
            raise InputError(f"{what} has {key} {found}; expected predictions of the same network as the test record")


def check_classes(what: str, record: Predictions, test: Predictions) -> None:
    """Raises InputError if a record has another number of classes than the test record."""
    if record.logits.shape[1] != test.logits.shape[1]:
        raise InputError(
            f"{what} has {record.logits.shape[1]} classes; "
            f"expected {test.logits.shape[1]}, as the in-distribution record has"
        )
