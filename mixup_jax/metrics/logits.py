"""Checks of logits and labels, and reading logits block by block in several threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError

SUM_TOLERANCE = 0.01
"""The largest allowed distance between 1 and the sum of a row of probabilities."""

UNLABELLED = -1
"""The label of an example that has no class or a class outside the network's classes."""


def check_logits(logits: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    """Returns the checked logits, float32 or wider, `[N, K]`; half precision becomes float32."""
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
        # float32 represents every half-precision number exactly.
        with np.errstate(invalid="ignore"):  # for signalling NaNs; any NaN is refused below
            logits = logits.astype(np.float32)
    # The maximum of a row is NaN if any logit is, +inf if any is, and -inf only if all are.  This is one pass
    # without a copy, because the logits may be a file that is larger than memory.
    suspect = np.flatnonzero(~np.isfinite(row_maxima(logits)))
    if len(suspect):
        _refuse_rows(logits, suspect)
    return logits


def row_maxima(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Returns the largest logit of each row, NaN where any is, in the dtype of the logits."""
    rows = max(1, _PART // logits.shape[1])
    return np.concatenate(in_threads(lambda part: logits[part].max(axis=1), list(rows_of(len(logits), rows))))


def _refuse_rows(logits: npt.NDArray[np.floating], suspect: npt.NDArray[np.int64]) -> None:
    """Raises InputError for these rows, each of which contains NaN or +inf, or is -inf in every class."""
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
    """Returns the checked labels, int32 `[examples]` in [-1, classes)."""
    smallest_label(labels, examples, classes)
    return labels.astype(np.int32)


def smallest_label(labels: npt.NDArray[Any], examples: int, classes: int) -> int:
    """Returns the smallest label, 0 if there are none, after checking the labels as `check_labels` does."""
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
"""Logits in a block: 1 MiB in float64, which fits a processor's cache and was the fastest size measured."""

_PART = 1 << 21  # logits that a thread looks through at a time

MOST_THREADS = 8
"""The most threads used: more would wait for the interpreter's lock between calls of numpy."""


def blocks(examples: int, classes: int, logits: int = BLOCK) -> Iterator[slice]:
    """Yields, in order, slices of rows that cover `examples` rows: about `logits` logits each, and at least one row."""
    return rows_of(examples, max(1, logits // classes))


def rows_of(examples: int, rows: int) -> Iterator[slice]:
    """Yields slices of `rows` examples (the last may have fewer) that together cover all of them, in order."""
    for start in range(0, examples, rows):
        yield slice(start, min(start + rows, examples))


def in_threads(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    """Returns `work(part)` for each part, in their order, computed for several parts at a time.

    numpy and compiled loops release the interpreter's lock, so threads use every core.
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
        except BaseException as failure:  # raised again below, in the calling thread
            failures.append(failure)
            waiting.clear()  # the other threads start no further part

    # The calling thread works too.  A thread pool would cost more time than small parts take.
    helpers = [Thread(target=work_off) for _ in range(min(len(parts), MOST_THREADS, os.cpu_count() or 1) - 1)]
    for helper in helpers:
        helper.start()
    work_off()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(parts))]
