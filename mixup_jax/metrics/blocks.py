"""Rows of logits a few at a time, so that a file larger than memory can be measured; and several such parts at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

BLOCK = 1 << 17
"""Logits in a block: 1 MiB in float64.  Small enough for a processor's cache, which also makes it the fastest."""

MOST_THREADS = 8
"""More than this wait for each other: between numpy's calls the interpreter runs one at a time."""


def blocks(examples: int, classes: int) -> Iterator[slice]:
    """Yields slices that together cover `examples` rows of `classes` logits, in order, each of at least one row."""
    rows = max(1, BLOCK // classes)
    for start in range(0, examples, rows):
        yield slice(start, min(start + rows, examples))


def in_threads(work: Callable[[slice], Result], parts: Sequence[slice]) -> list[Result]:
    """Returns `work(part)` for each part, in their order, computed for several parts at a time.

    numpy computes without holding the interpreter, so threads use every core: nearly twice as fast on two.
    """
    if len(parts) < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(min(len(parts), MOST_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, parts))
