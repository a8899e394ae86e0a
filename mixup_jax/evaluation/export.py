"""Renders an evaluation as tables for a terminal, Markdown and LaTeX, and as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixup_jax.errors import unknown_name
from mixup_jax.escapes import latex, markdown, spreadsheet
from mixup_jax.evaluation.recalibration import POSTHOC
from mixup_jax.metrics import table as metric_table

SUFFIXES = (".json", ".md", ".tex", ".csv")


def check_suffix(output: Path) -> None:
    """Raises InputError if `render` knows no format of this suffix."""
    if output.suffix and output.suffix.lower() not in SUFFIXES:
        raise unknown_name("format of results", output.suffix, SUFFIXES)


def render(document: Mapping[str, Any], output: Path) -> str:
    """Returns the text of a file of results in the format of its suffix.

    `.json`, or no suffix: the document itself.  `.md`: Markdown tables.  `.tex`: LaTeX tables for a paper (they need
    booktabs), without the examples on which the temperature was fitted.  `.csv`: one line per number, unrounded, with
    the columns of `_CSV_HEADER`.
    """
    check_suffix(output)
    suffix = output.suffix.lower()
    if suffix == ".md":
        return "\n\n".join(_markdown(table) for table in tables(document)) + "\n"
    if suffix == ".tex":
        fitted_on = document["temperature_fitted_on"]
        tested = {name: entry for name, entry in document["results"].items() if name != fitted_on}
        needs = r"% Needs \usepackage{booktabs}."
        return "\n\n".join([needs, *(_latex(table) for table in tables({**document, "results": tested}))]) + "\n"
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
        # In braces, because LaTeX would read an interval in brackets as an argument of the `\\` before it.
        return " & ".join(f"{{{latex(cell)}}}" for cell in cells) + r" \\"

    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            line(table.header),
            r"\midrule",
            *(line(row) for row in table.rows),
            r"\bottomrule",
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
                for path, *row in _numbers(numbers or {}):
                    writer.writerow((part, spreadsheet(name), state, spreadsheet(path), *row))
    for group, entry in document.get("ood_groups", {}).items():
        for path, *row in _numbers(entry["scores"]):
            writer.writerow(("ood_groups", group, "raw", path, *row))
    return buffer.getvalue()


def _numbers(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any, Any]]:
    """Yields (metric, value, low, high) for every number of an entry; the name of a nested number is its path."""
    intervals = entry.get("intervals", {})
    for key, value in entry.items():
        if key in ("intervals", "after_temperature", "posthoc"):
            continue
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif not isinstance(value, str):
            yield (prefix + key, value, *intervals.get(key, (None, None)))


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
      header: one name for each column; the first column has the names of the rows.
      rows: each has as many cells as the header.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(document: Mapping[str, Any]) -> list[Table]:
    """Returns the document of `evaluate_records` as tables.

    There is one for each entry of `results`, with intervals, noise floors and a column for each fitted method; one for
    what it has on request; then one for all entries of `ood`, and one for each group of them.
    """
    fitted_on = document["temperature_fitted_on"]
    found = [
        _result_table(f"{name} (T fitted here)" if name == fitted_on else name, entry)
        for name, entry in document["results"].items()
    ]
    found += [_numbers_table(name, entry["extra"]) for name, entry in document["results"].items() if "extra" in entry]
    if document["ood"]:
        found.append(_ood_table(document["ood"]))
    for group, entry in document.get("ood_groups", {}).items():
        found.append(_numbers_table(f"mean of the {group} sets ({', '.join(entry['sets'])})", entry["scores"]))
    return found


def format_table(document: Mapping[str, Any]) -> str:
    """Returns the tables of a document as plain text for a terminal, without a final newline."""
    parts = [f"{table.title}\n{_aligned([table.header, *table.rows])}" for table in tables(document)]
    parts += [
        f"{count} rows of {name} have the logits of a test row: the same examples, or the same predictions."
        for name, count in document.get("test_rows_in", {}).items()
    ]
    fit = document.get("temperature_fit", {})
    if "left_out" in fit:
        left_out = fit["left_out"]
        parts.append(f"{left_out} validation examples, whose true class has probability 0, are left out of the fit.")
    if "at_bound" in fit:
        parts.append(f"T is at its bound, {fit['at_bound']:g}: the validation NLL has no minimum within the bounds.")
    parts += [
        f"{name}: {entry['extra']['conformal']['warning']}."
        for name, entry in document["results"].items()
        if "warning" in entry.get("extra", {}).get("conformal", {})
    ]
    return "\n\n".join(parts)


def _result_table(name: str, entry: Mapping[str, Any]) -> Table:
    left_out = f" ({entry['unlabelled']} unlabelled left out)" if entry["unlabelled"] else ""
    sides = [("value", entry)]
    if entry["after_temperature"] is not None:
        sides.append((f"T = {entry['temperature']:.4f}", entry["after_temperature"]))
    sides += [(POSTHOC[method].label, side) for method, side in entry.get("posthoc", {}).items()]
    if "images" in entry:
        images = entry["images"]
        left_out += f" in {images['n']} images of {images['fewest']} to {images['most']}, which intervals resample"
    header = ["", *(cell for title, _ in sides for cell in (title, "95 % interval")), "noise floor (95th percentile)"]
    rows = []
    for row in metric_table.METRICS:
        cells = [cell for _, side in sides for cell in (_cell(side, row.key), _span(side["intervals"].get(row.key)))]
        if row.summary and any(cells):
            floor = entry["noise_floor"].get(row.key)
            label = row.label.replace("\N{MINUS SIGN}", "-")  # a terminal may support ASCII only
            rows.append((label, *cells, f"{floor['mean']:.4f} ({floor['p95']:.4f})" if floor else ""))
    return Table(f"{name}: n = {entry['n']}{left_out}, fractions, not percent", tuple(header), tuple(rows))


def _numbers_table(name: str, entry: Mapping[str, Any]) -> Table:
    """Returns all numbers of an entry by their paths, but not those of each single group of examples."""
    rows = [
        (path, "" if value is None else f"{value:.4f}", _span(None if low is None else [low, high]))
        for path, value, low, high in _numbers(entry)
        if "/groups/" not in path and "/by_size/" not in path
    ]
    return Table(f"{name}: on request", ("", "value", "95 % interval"), tuple(rows))


def _ood_table(entries: Mapping[str, Mapping[str, Any]]) -> Table:
    first, *others = metric_table.DETECTION  # only the first always has an interval
    labels = {score.key: score.label for score in metric_table.SCORES}
    rows = []
    for name, entry in entries.items():
        sides = [(name, entry)]
        if entry["after_temperature"] is not None:
            sides.append((f"{name}, T = {entry['temperature']:.4f}", entry["after_temperature"]))
        for label, side in sides:
            sizes = [str(side["n_in"]), str(side["n_out"])]
            for score, numbers in ((side["score"], side), *side.get("scores", {}).items()):
                if numbers is None:  # for the reason in `no_information`
                    rows.append((label, labels[score], *sizes, *["-"] * (len(others) + 2), ""))
                    continue
                interval = _span(numbers.get("intervals", {}).get(first.key))
                more = [_cell(numbers, row.key) for row in others]
                confidence = _cell(side, "mean_confidence") if numbers is side else ""
                rows.append(
                    (label, labels.get(score, score), *sizes, _cell(numbers, first.key), interval, *more, confidence)
                )
    reasons = {reason for entry in entries.values() for reason in entry.get("no_information", {}).values()}
    title = "out of distribution: higher score = more foreign; fractions, not percent"
    title += "".join(f"; -: {reason}" for reason in sorted(reasons))
    header = ("", "score", "n_in", "n_out", first.label, "95 % interval", *(row.short or row.label for row in others))
    return Table(title, (*header, "mean confidence"), tuple(rows))


def _cell(entry: Mapping[str, Any], key: str) -> str:
    """Returns a number of an entry as text: empty if it is missing, "infinite" for null."""
    value = metric_table.stored(entry, key, missing="")
    return value if value == "" else "infinite" if value is None else f"{value:.4f}"


def _span(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"


def _aligned(table: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for label, *cells in table:
        padded = [label.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)
