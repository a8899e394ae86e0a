"""Order statistics of large sets without a sort by comparisons: sorted scores, wins, quantiles."""

from typing import NamedTuple

import numpy as np

from mixup_jax.metrics.logits import in_threads, rows_of
from mixup_jax.metrics.softmax import Bools, Floats, Ints, plain

_FEW = 1 << 12  # up to this many are sorted by numpy at once, which takes less time than loading the compiled loops
_SOME = 1 << 16  # up to this many examples are sorted by numpy, which takes less time than counting them in cells
_BLOCK = 1 << 18  # examples counted at a time


def ascending(values: Floats) -> Floats:
    """Returns the values in ascending order, without -0; they must not contain NaN."""
    if len(values) <= _FEW:
        return np.sort(values + 0.0)
    if (values[:-1] <= values[1:]).all():
        return values + 0.0
    from mixup_jax.metrics.compiled_order import radix_sort

    keys = np.empty(len(values), np.uint64)
    radix_sort(plain(values, np.float64), keys, np.empty_like(keys))
    return keys.view(np.float64)


def both_ascending(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Returns `ascending` of both, computed at the same time."""
    sets = (one, other)
    first, second = in_threads(lambda which: ascending(sets[which.start]), [slice(0, 1), slice(1, 2)])
    return first, second


def wins(scores: Floats, others: Floats) -> Ints:
    """Returns for each score twice the number of `others` below it (a tie counts 1/2); both must be ascending."""
    if len(scores) + len(others) <= _FEW:
        found: Ints = np.searchsorted(others, scores, side="left") + np.searchsorted(others, scores, side="right")
        return found
    result = np.empty(len(scores), np.int64)
    _count_wins(scores, others, result)
    return result


def sum_of_wins(scores: Floats, others: Floats) -> int:
    """Returns the sum of `wins`."""
    if len(scores) + len(others) <= _FEW:
        return int(wins(scores, others).sum())
    return _count_wins(scores, others, np.empty(0, np.int64))


def _count_wins(scores: Floats, others: Floats, result: Ints) -> int:
    from mixup_jax.metrics.compiled_order import count_wins

    def work(rows: slice) -> int:
        # Of the others, only those from the first to the last score of these rows need be looked at.
        first = np.searchsorted(others, scores[rows.start], side="left")
        last = np.searchsorted(others, scores[rows.stop - 1], side="right")
        total = count_wins(scores[rows], others[first:last], result[rows])
        result[rows] += 2 * first
        return int(total + 2 * first * (rows.stop - rows.start))

    return sum(in_threads(work, list(rows_of(len(scores), _BLOCK))))


class Groups(NamedTuple):
    """Examples in groups of ascending confidence: some of a single example, the others of many.

    Attributes:
      size, right: int64 `[G]`, examples and correct ones.
      total: float64 `[G]`, sum of their confidences.
      singles: int64 `[S]`, the positions of groups with a single example.
      confidence: float64 `[S]`, ascending, of these.
    """

    size: Ints
    right: Ints
    total: Floats
    singles: Ints
    confidence: Floats


def groups_around(confidence: Floats, correct: Bools, ranks: Ints) -> Groups:
    """Returns groups of which those around the given ranks (from 0, of ascending confidence) are single examples.

    They are all examples equal to the one at a rank, and at least one before these.
    """
    if len(confidence) <= _SOME:
        each = ascending(confidence)
        # All right ones of equal confidences are counted with the first of these, which no bin divides.
        right = np.bincount(np.searchsorted(each, confidence[correct]), minlength=len(each))
        return Groups(np.ones(len(each), np.int64), right, each, np.arange(len(each)), each)
    from mixup_jax.metrics.compiled_order import CELLS, count_in_cells, find_in_cells, write_cells

    values, outcomes = plain(confidence, np.float64), plain(correct, np.bool_).view(np.uint8)
    parts, near_one = list(rows_of(len(values), _BLOCK)), bool(values.mean() > 0.5)

    def counted(rows: slice) -> tuple[Ints, Ints, Floats]:
        count, right, total = np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64), np.zeros(CELLS)
        count_in_cells(values[rows], near_one, outcomes[rows], count, right, total)
        return count, right, total

    count, right, total = (np.sum(part, axis=0) for part in zip(*in_threads(counted, parts), strict=True))
    filled = np.flatnonzero(count)
    of_rank = np.searchsorted(count[filled].cumsum(), ranks, side="right")
    chosen = np.zeros(CELLS, bool)
    chosen[filled[np.concatenate([of_rank, np.maximum(of_rank - 1, 0)])]] = True

    def found(rows: slice) -> Ints:
        places = np.empty(rows.stop - rows.start, np.int64)
        return rows.start + places[: find_in_cells(values[rows], near_one, chosen, places)]

    places = np.concatenate(in_threads(found, parts))
    places = places[np.argsort(values[places], kind="stable")]
    each, cells = values[places], np.empty(len(places), np.int64)
    write_cells(each, near_one, cells)
    whole = filled[~chosen[filled]]
    order = np.argsort(np.concatenate([whole, cells]), kind="stable")
    pairs = (count[whole], np.ones_like(cells)), (right[whole], outcomes[places].astype(np.int64)), (total[whole], each)
    size, right, total = (np.concatenate(pair)[order] for pair in pairs)
    return Groups(size, right, total, np.flatnonzero(order >= len(whole)), each)
