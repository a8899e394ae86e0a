"""Probabilities and confidences computed from rows of logits.

Everything is computed in float64 and, where small probabilities matter, in the log domain.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.logits import UNLABELLED, blocks, check_logits, in_threads, smallest_label

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Logits = npt.NDArray[np.floating]

WIDE = 64
"""The number of classes from which a single row fills the processor's vector registers."""

_PART = 1 << 19  # logits that a thread takes at a time: enough to take much longer than starting a thread
_PART_OF_WIDE = 1 << 23  # the fastest size measured


def check_labelled(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Logits, Ints]:
    """Returns logits (float32 or wider `[N, K]`, not copied) and labels (int64 `[N]`) after checking both."""
    checked_logits = check_logits(np.asarray(logits))
    return checked_logits, check_all_labelled(checked_logits, labels)


def shifted_logits(logits: npt.ArrayLike) -> Floats:
    """Returns the logits minus the maximum of their row: float64 `[N, K]`, at most 0, -inf where impossible."""
    checked = check_logits(np.asarray(logits)).astype(np.float64)
    # A gap that overflows float64 becomes -inf, an impossible class.
    with np.errstate(over="ignore"):
        shifted: Floats = checked - checked.max(axis=1, keepdims=True)
    return shifted


def log_softmax(logits: npt.ArrayLike) -> Floats:
    """Returns the logarithms of the class probabilities, `z - logsumexp(z)`, for each row z of `logits`."""
    shifted = shifted_logits(logits)
    others = np.exp(shifted)
    others[np.arange(len(shifted)), shifted.argmax(axis=1)] = 0.0
    log_probabilities: Floats = shifted - np.log1p(others.sum(axis=1, keepdims=True))
    return log_probabilities


def shifted_blocks(logits: npt.ArrayLike) -> Iterator[tuple[slice, Floats]]:
    """Yields the rows of each block and its `shifted_logits`, classes first, `[K, rows]`; callers may overwrite them.

    The array is not copied: a memory-mapped file is read once, block by block.  Classes come first because
    numpy reduces the first axis several times faster than a short last one.
    """
    array = table_of_logits(logits)
    for block in blocks(*array.shape):
        yield block, _shifted_block(array[block], array)


def table_of_logits(logits: npt.ArrayLike) -> Logits:
    """Returns the logits unchanged, `[N, K]`, after checking their shape and dtype, but not their values."""
    array = np.asarray(logits)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2 or not np.issubdtype(array.dtype, np.floating):
        check_logits(array)
    return array


def _shifted_block(block: Logits, whole: Logits) -> Floats:
    """Returns the shifted logits of a block, `[K, rows]`; an error gives the position of a row in `whole`."""
    shifted = np.array(block.T, dtype=np.float64, order="C")
    top = shifted.max(axis=0)
    # The maximum of a row is finite unless the row contains NaN or +inf, or only -inf.
    if not np.isfinite(top).all():
        check_logits(whole)
    with np.errstate(over="ignore"):
        shifted -= top
    return shifted


def check_all_labelled(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Ints:
    """Returns the labels, int64 `[N]`, after checking them against the shape of the logits."""
    shape = np.shape(logits)
    if len(shape) != 2:
        check_logits(np.asarray(logits))
    given = np.asarray(labels)
    if smallest_label(given, *shape) == UNLABELLED:
        count = int((given == UNLABELLED).sum())
        raise InputError(f"labels contain {count} times -1 (no label); expected a class for every example here")
    return given.astype(np.int64, copy=False)


def max_probability(logits: npt.ArrayLike) -> Floats:
    """Returns the confidence, the largest softmax probability: float64 `[N]` in [1/K, 1]."""
    array = table_of_logits(logits)
    confidence, no_labels = np.empty(len(array)), np.zeros(len(array), np.int64)

    def work(rows: slice) -> None:
        confidence[rows], _ = confidence_and_correct_of(array[rows], no_labels[rows], array)

    in_threads(work, parts_of(array))
    return confidence


def confidence_and_correct(logits: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Returns the confidence of each prediction and whether it is correct.

    The prediction is the class of the largest logit; among equal ones the first.

    Returns:
      confidence: float64 `[N]` in [1/K, 1], the largest softmax probability.
      correct: bool `[N]`.
    """
    array, checked_labels = table_of_logits(logits), check_all_labelled(logits, labels)
    confidence, correct = np.empty(len(array)), np.empty(len(array), bool)

    def work(rows: slice) -> None:
        confidence[rows], correct[rows] = confidence_and_correct_of(array[rows], checked_labels[rows], array)

    in_threads(work, parts_of(array))
    return confidence, correct


def parts_of(logits: Logits) -> list[slice]:
    """Returns slices of rows of the size for which `confidence_and_correct_of` is fastest."""
    examples, classes = logits.shape
    return list(blocks(examples, classes, _PART_OF_WIDE if classes >= WIDE else _PART))


def confidence_and_correct_of(block: Logits, labels: Ints, whole: Logits) -> tuple[Floats, Bools]:
    """Returns `confidence_and_correct` of some rows and their checked labels.

    The message of an error gives the position in `whole`.
    """
    from mixup_jax.metrics.compiled import confidence_of_narrow_rows, confidence_of_wide_rows

    rows = plain_rows(block)
    places = plain(labels, np.int64)
    confidence, correct = np.empty(len(rows)), np.empty(len(rows), bool)
    if rows.shape[1] >= WIDE:
        confidence_of_wide_rows(rows, bits_of(rows), places, confidence, correct)
    else:
        confidence_of_narrow_rows(rows, places, confidence, correct)
    if not confidence.min() > 0.0:  # the minimum is NaN if any confidence is
        check_logits(whole)
    return confidence, correct


def plain(array: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
    """Returns the array contiguous, aligned and of this dtype, as compiled loops need it; copies only if necessary."""
    return np.require(array, dtype, ["C", "A"])


def plain_rows(block: Logits) -> Logits:
    """Returns rows of logits as compiled loops need them, float32 or float64; copies only if necessary."""
    return plain(block, np.float32 if block.dtype.itemsize <= 4 else np.float64)


def bits_of(rows: Logits) -> npt.NDArray[np.signedinteger]:
    """Returns the bits of `plain_rows` as integers of the same size, in the same memory."""
    return rows.view(np.int32 if rows.dtype == np.float32 else np.int64)
