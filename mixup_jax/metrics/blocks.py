"""Rows of logits a few at a time, so that a file larger than memory can be measured; and several such parts at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")

BLOCK = 1 << 17
"""Logits in a block: 1 MiB in float64.  Small enough for a processor's cache, which also makes it the fastest."""

MOST_THREADS = 8
"""More than this wait for each other: between numpy's calls the interpreter runs one at a time."""


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
            waiting.clear()  # nobody starts what would be thrown away

    # This thread works too, and whoever is free takes the next part: a pool would cost more than some of the work.
    helpers = [Thread(target=work_off) for _ in range(min(len(parts), MOST_THREADS, os.cpu_count() or 1) - 1)]
    for helper in helpers:
        helper.start()
    work_off()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]
    return [results[number] for number in range(len(parts))]
