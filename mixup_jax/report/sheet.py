"""Small tables of the page that are files of their own as well."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mixup_jax import escapes


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
      file_name: without its ending.
      caption: what it shows.
      header: the names of its columns.
      rows: its lines: the tokens of what a line is about, and its cells, the first of which names it.
      csv: the same with all digits.
    """

    file_name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    csv: bytes


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> bytes:
    """Returns a CSV file; text that a spreadsheet would take for a formula has an apostrophe before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([escapes.spreadsheet(cell) if isinstance(cell, str) else cell for cell in row])
    return buffer.getvalue().encode()
