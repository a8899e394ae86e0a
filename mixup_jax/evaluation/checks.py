"""Checks of records before they are measured.

They come from one network; validation and test records have different examples; and they hold logits, or probabilities
where that is said: doubtful records are refused, and nothing is guessed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import blocks, in_threads
from mixup_jax.runs.records import Predictions, logits_of_probabilities, sum_tolerance

MOST_SHARED = 0.01
"""The largest share of validation rows that may be test rows.

Data sets contain some images or sentences twice, far fewer than 1 %, and 1 % of a validation set changes a fitted
temperature by less than its standard error.  A leak, such as an overlapping split, shares far more rows.
"""
ALWAYS_ALLOWED = 2
"""This many shared rows are allowed in a larger set, because a small set may contain an image twice."""

LOGITS, PROBABILITIES, PERCENTAGES, SIGMOIDS = "logits", "probabilities", "percentages", "outputs of a sigmoid"
SUMMED = (PROBABILITIES, PERCENTAGES)
MOST_ROWS = 10_000
"""Rows of a record that are judged, evenly spaced; a record may be larger than memory."""
SHARE_OF_SUMS = 0.1
"""The share of rows from which on sums of 1 are no coincidence.

Of two standard normal logits, 0.2 % lie in [0, 1] and sum to 1 within 1 %; of more classes, fewer.
"""
SHARE_INSIDE = 0.9
"""The share of rows in [0, 1] from which on a record is doubtful; logits are seldom all of one sign and small."""
ENOUGH_ROWS = 10
"""With this many rows in each of two records, it is certain whether only one of them has rows that sum to 1."""
SLACK = 1e-6
"""How far float32 leaves [0, 1]."""


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


class Look(NamedTuple):
    """What the numbers of a record look like (LOGITS, PROBABILITIES, ..), why, and how many rows were judged."""

    kind: str
    why: str
    rows: int


@dataclass(frozen=True)
class Wording:
    """The ways to state what the numbers are: flags of the command, or arguments of the function."""

    probabilities: str
    logits: str


FLAGS = Wording("--probabilities", "--logits")
ARGUMENTS = Wording("probabilities=True", "probabilities=False")


def look_of(numbers: npt.NDArray[np.floating]) -> Look:
    """Returns what the rows of a record `[N, K]` look like; zeros throughout are logits."""
    every = -(-len(numbers) // MOST_ROWS)
    rows = numbers[::every]
    lowest, highest = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    inside, to_hundred = (_within_one(lowest / unit, highest / unit) for unit in (1, 100))
    summed, percent = _sums_to(1, rows, inside), _sums_to(100, rows, to_hundred)
    for kind, found, least, why in (
        (PROBABILITIES, summed, SHARE_OF_SUMS, "are from 0 to 1 and sum to 1"),
        (PERCENTAGES, percent, SHARE_OF_SUMS, "are from 0 to 100 and sum to 100"),
        (SIGMOIDS, inside, SHARE_INSIDE, "are from 0 to 1 and do not sum to 1"),
    ):
        if found.mean() >= least and rows[found].any():
            return Look(kind, f"{found.sum()} of {len(rows)} rows {why}", len(rows))
    return Look(LOGITS, "", len(rows))


def _within_one(lowest: npt.NDArray[np.float64], highest: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (lowest >= -SLACK) & (highest <= 1 + SLACK)
    return inside


def _sums_to(total: int, rows: npt.NDArray[np.floating], among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Returns which of the chosen rows have this sum, or one that rounding explains."""
    found = among.copy()
    if among.any():
        chosen = rows[among].astype(np.float64) / total
        found[among] = np.abs(chosen.sum(axis=1) - 1) <= sum_tolerance(chosen)
    return found


def check_numbers(records: Mapping[str, Predictions], probabilities: bool | None, say: Wording) -> dict[str, Any]:
    """Returns what the numbers of some records were taken for: `{"taken_for": .., "stated": ..}`.

    Args:
      records: by the name that their user knows them by, with the numbers as they were given, unless they were
        probabilities by `probabilities`: those were checked when their logarithms were taken.
      probabilities: what the user stated; None if nothing, which means logits.
      say: how the user can say it.

    Raises:
      InputError: nothing was said, and a record is doubtful; or the records are not all of one kind.
    """
    stated = {"taken_for": PROBABILITIES if probabilities else LOGITS, "stated": probabilities is not None}
    if probabilities:
        return stated
    looks = {name: look_of(record.logits) for name, record in records.items()}
    doubtful = [name for name, look in looks.items() if look.kind != LOGITS]
    if probabilities is False:
        doubtful = [name for name in doubtful if looks[name].kind in SUMMED and looks[name].rows >= ENOUGH_ROWS]
    if not doubtful:
        return stated
    name, look = doubtful[0], looks[doubtful[0]]
    found = f"{name} looks like {look.kind} ({look.why})"
    for other, its in looks.items():
        if its.kind != look.kind and (probabilities is None or (its.kind not in SUMMED and its.rows >= ENOUGH_ROWS)):
            raise InputError(f"{found}, {other} like {its.kind}; expected numbers of one kind in all records")
    if probabilities is None:
        raise InputError(f"{found}; expected {_remedy(look.kind, say)}")
    return stated


def _remedy(kind: str, say: Wording) -> str:
    if kind == PROBABILITIES:
        return f"{say.probabilities}, or {say.logits} if they are logits"
    if kind == PERCENTAGES:
        return f"them divided by 100 and {say.probabilities}, or {say.logits} if they are logits"
    return f"logits, or one distribution over the classes in each row; {say.logits} if they are logits"


def as_probabilities(record: Predictions) -> Predictions:
    """Returns a record whose numbers were said to be probabilities, with their logarithms.

    A record that has the logarithms already, as `load_predictions(probabilities=True)` returns it, is left as it is.

    Raises:
      InputError: it holds neither.
    """
    if (record.logits <= SLACK).all():
        logits_of_probabilities(np.minimum(np.exp(np.asarray(record.logits, np.float64)), 1.0))
        return record
    return replace(record, logits=logits_of_probabilities(record.logits))
