"""Rows of logits a few at a time, so that a file larger than memory can be measured."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 1 << 18
"""Logits in a block: 2 MiB in float64.  Small enough for a processor's cache, which also makes it the fastest."""


def blocks(examples: int, classes: int) -> Iterator[slice]:
    """Yields slices that together cover `examples` rows of `classes` logits, in order, each of at least one row."""
    rows = max(1, BLOCK // classes)
    for start in range(0, examples, rows):
        yield slice(start, min(start + rows, examples))
