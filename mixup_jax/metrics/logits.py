"""What logits and labels must be, and how they are read: a few rows at a time, several parts at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError

SUM_TOLERANCE = 0.01
"""How far from 1 the sum of a row of probabilities may be."""

UNLABELLED = -1
"""The label of an example without a class, or whose class the network does not know."""


def check_logits(logits: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    """Returns logits as a record may hold them, float32 or wider `[N, K]` (half precision is widened).

    Raises:
      InputError: wrong shape or dtype, NaN or +inf, or a row that is -inf throughout.
    """
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
        binary = logits.ndim in (1, 2) and logits.shape[0] >= 1 and logits.shape[1:] in ((), (1,))
        raise InputError(
            f"logits have shape {list(logits.shape)}; expected [N, K] with N >= 1 examples and K >= 2 classes"
            + (" (of a single logit z for two classes: the columns 0 and z)" if binary else "")
        )
    if not np.issubdtype(logits.dtype, np.floating):
        narrow = " (numpy saves bfloat16 in this way; save logits.astype('float32'))" if logits.dtype == "V2" else ""
        raise InputError(f"logits have dtype {logits.dtype}; expected floating point, such as float32{narrow}")
    if logits.dtype.itemsize < 4:
        # Half precision is exact in float32, so nothing is lost or invented here.
        with np.errstate(invalid="ignore"):  # a NaN of the kind that signals; NaN is refused below
            logits = logits.astype(np.float32)
    # The maximum of a row shows all three: NaN propagates, +inf wins, and -inf remains only if all are.  One
    # pass without a copy, because the logits may be a file that is larger than memory.
    suspect = np.flatnonzero(~np.isfinite(logits.max(axis=1)))
    if len(suspect):
        _refuse_rows(logits, suspect)
    return logits


def _refuse_rows(logits: npt.NDArray[np.floating], suspect: npt.NDArray[np.int64]) -> None:
    """Raises the error for these rows, each of which holds NaN or +inf or is -inf throughout."""
    found = [(int(row), np.flatnonzero(np.isnan(logits[row]) | np.isposinf(logits[row]))) for row in suspect]
    bad = [(row, columns) for row, columns in found if len(columns)]
    if not bad:
        raise InputError(f"row {int(suspect[0])} of logits is -inf in every class; at least one must be finite")
    row, columns = bad[0]
    raise InputError(
        f"logits contain {sum(len(columns) for _, columns in bad)} NaN or +inf values, the first "
        f"{logits[row, columns[0]]} at [{row}, {columns[0]}]; "
        "expected finite numbers (-inf is allowed for an impossible class)"
    )


def check_labels(labels: npt.NDArray[Any], examples: int, classes: int) -> npt.NDArray[np.int32]:
    """Returns labels as a record may hold them, int32 `[examples]` in [-1, classes).

    Raises:
      InputError: wrong shape or dtype, or a label outside the range.
    """
    smallest_label(labels, examples, classes)
    return labels.astype(np.int32)


def smallest_label(labels: npt.NDArray[Any], examples: int, classes: int) -> int:
    """Returns the smallest of some labels, 0 if there are none, after checking them as `check_labels` does."""
    if labels.shape != (examples,):
        one_hot = labels.shape == (examples, classes) and np.isin(labels, (0, 1)).all()
        raise InputError(
            f"labels have shape {list(labels.shape)}; expected [{examples}], one for each row of logits"
            + (" (of one-hot labels: their argmax over the classes)" if one_hot else "")
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels have dtype {labels.dtype}; expected integers, the index of each example's class")
    largest = int(np.iinfo(labels.dtype).max)
    if largest < classes - 1:
        raise InputError(
            f"labels have dtype {labels.dtype}, which ends at {largest}, but there are {classes} classes, so some may "
            "have wrapped around; expected a wider type, such as int32"
        )
    if not examples:
        return 0
    smallest = int(labels.min())
    if smallest < UNLABELLED or labels.max() >= classes:
        first = int(np.argmax((labels < UNLABELLED) | (labels >= classes)))
        raise InputError(
            f"label {labels[first]} of example {first} is outside [-1, {classes}); "
            f"expected a class from 0 to {classes - 1}, or -1 for an example without a label"
        )
    return smallest


Result = TypeVar("Result")

BLOCK = 1 << 17
"""Logits in a block: 1 MiB in float64, which fits a processor's cache and was the fastest size."""

MOST_THREADS = 8
"""More threads than this wait for the interpreter's lock between numpy's calls."""


def blocks(examples: int, classes: int, logits: int = BLOCK) -> Iterator[slice]:
    """Yields slices that together cover `examples` rows of `classes` logits, in order, each of at least one row."""
    return rows_of(examples, max(1, logits // classes))


def rows_of(examples: int, rows: int) -> Iterator[slice]:
    """Yields slices of `rows` examples (the last may have fewer) that together cover all of them, in order."""
    for start in range(0, examples, rows):
        yield slice(start, min(start + rows, examples))


def in_threads(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    """Returns `work(part)` for each part, in their order, computed for several parts at a time.

    numpy and compiled loops do not hold the interpreter, so threads use every core: nearly twice as fast on two.
    """
    results: dict[int, Result] = {}
    failures: list[BaseException] = []
    waiting = deque(range(len(parts)))

    def next_part() -> int | None:
        try:
            return waiting.popleft()
        except IndexError:
            return None

    def work_off() -> None:
        try:
            while (number := next_part()) is not None:
                results[number] = work(parts[number])
        except BaseException as failure:  # raised below, whichever thread it came from
            failures.append(failure)
            waiting.clear()  # the other threads start nothing more

    # This thread works too, and each thread takes the next part when free; a pool would cost more than small parts do.
    helpers = [Thread(target=work_off) for _ in range(min(len(parts), MOST_THREADS, os.cpu_count() or 1) - 1)]
    for helper in helpers:
        helper.start()
    work_off()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(parts))]
