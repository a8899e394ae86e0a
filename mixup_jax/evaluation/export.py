"""The document of `evaluation.json` in the formats that papers and other tools read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mixup_jax.errors import unknown_name
from mixup_jax.escapes import latex, markdown, spreadsheet
from mixup_jax.evaluation.table import Table, tables

SUFFIXES = (".json", ".md", ".tex", ".csv")


def check_suffix(output: Path) -> None:
    """Raises InputError if `render` knows no format of this suffix."""
    if output.suffix and output.suffix.lower() not in SUFFIXES:
        raise unknown_name("format of results", output.suffix, SUFFIXES)


def render(document: Mapping[str, Any], output: Path) -> str:
    """Returns the text of a file of results; its suffix says in which format.

    `.json`, and no suffix at all: the document itself.  `.md`: Markdown tables.  `.tex`: LaTeX tables (tabular, no
    package needed).  `.csv`: one line a number, unrounded, with the columns of `_CSV_HEADER`.

    Raises:
      InputError: another suffix.
      ValueError: NaN or infinity in the document, which are not JSON.
    """
    check_suffix(output)
    suffix = output.suffix.lower()
    if suffix == ".md":
        return "\n\n".join(_markdown(table) for table in tables(document)) + "\n"
    if suffix == ".tex":
        return "\n\n".join(_latex(table) for table in tables(document)) + "\n"
    if suffix == ".csv":
        return _csv(document)
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(markdown(cell) for cell in cells) + " |"

    rule = line(("---", *("---:",) * (len(table.header) - 1)))
    return "\n".join([f"**{markdown(table.title)}**", "", line(table.header), rule, *(line(row) for row in table.rows)])


def _latex(table: Table) -> str:
    def line(cells: tuple[str, ...]) -> str:
        # Braces keep an interval in brackets from being read as the argument of the line before it.
        return " & ".join(f"{{{latex(cell)}}}" for cell in cells) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\hline",
            line(table.header),
            r"\hline",
            *(line(row) for row in table.rows),
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


_CSV_HEADER = ("part", "record", "state", "metric", "value", "low", "high")


def _csv(document: Mapping[str, Any]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for part in ("results", "ood"):
        for name, entry in document[part].items():
            states = [("raw", entry), ("temperature", entry["after_temperature"]), *entry.get("posthoc", {}).items()]
            for state, numbers in states:
                for row in _numbers(numbers or {}):
                    writer.writerow((part, spreadsheet(name), state, *row))
    return buffer.getvalue()


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Yields (metric, value, low, high) for every number of an entry; a nested one has its path as its name."""
    intervals = entry.get("intervals", {})
    for key, value in entry.items():
        if key in ("intervals", "after_temperature", "posthoc"):
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif not isinstance(value, str):
            yield (prefix + key, value, *intervals.get(key, (None, None)))
