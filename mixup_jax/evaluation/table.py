"""The document of `evaluation.json` as tables of text: for a terminal, and for `export` to mark up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ROWS = (
    ("accuracy", "accuracy"),
    ("NLL (nats)", "nll"),
    ("Brier", "brier"),
    ("ECE, 15 bins", "ece_15"),
    ("ECE, 100 bins", "ece_100"),
    ("OE, 15 bins", "oe_15"),
    ("OE, 100 bins", "oe_100"),
    ("MCE, 15 bins", "mce_15"),
    ("adaptive ECE, 15 bins", "adaptive_ece_15"),
    ("smooth ECE", "smooth_ece"),
    ("debiased ECE (L2), 15 bins", "debiased_ece_l2_15"),
    ("class-wise ECE, 15 bins", "classwise_ece_15"),
    ("mean confidence", "mean_confidence"),
    ("confidence - accuracy", "confidence_minus_accuracy"),
    ("AURC", "aurc"),
    ("excess AURC", "e_aurc"),
)
_OOD_COLUMNS = ("aupr_in", "aupr_out", "fpr95_ood", "fpr95_id")
_OOD_HEADER = ("", "score", "n_in", "n_out", "AUROC", "95 % interval", "AUPR-in", "AUPR-out", "FPR95-ood", "FPR95-id")
_SCORE_NAMES = {"msp": "MSP", "entropy": "entropy", "energy": "energy", "max_logit": "max logit", "odin": "ODIN"}
_POSTHOC_NAMES = {"vector_scaling": "vector scaling", "isotonic": "isotonic"}


@dataclass(frozen=True)
class Table:
    """Cells of text.

    Attributes:
      title: what the numbers belong to.
      header: one name for each column; the first is that of the rows' names.
      rows: as many cells as the header has.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(document: Mapping[str, Any]) -> list[Table]:
    """Returns the document of `evaluate_records` as tables.

    One for each entry of `results`, with intervals, noise floors and, where something was fitted, further columns
    after it; then one for all of `ood`.
    """
    fitted_on = document["temperature_fitted_on"]
    found = [
        _result_table(f"{name} (T fitted here)" if name == fitted_on else name, entry)
        for name, entry in document["results"].items()
    ]
    if document["ood"]:
        found.append(_ood_table(document["ood"]))
    return found


def format_table(document: Mapping[str, Any]) -> str:
    """Returns the tables of a document as plain text for a terminal, without a final newline."""
    return "\n\n".join(f"{table.title}\n{_aligned([table.header, *table.rows])}" for table in tables(document))


def _result_table(name: str, entry: Mapping[str, Any]) -> Table:
    left_out = f" ({entry['unlabelled']} unlabelled left out)" if entry["unlabelled"] else ""
    sides = [("value", entry)]
    if entry["after_temperature"] is not None:
        sides.append((f"T = {entry['temperature']:.4f}", entry["after_temperature"]))
    sides += [(_POSTHOC_NAMES[method], side) for method, side in entry.get("posthoc", {}).items()]
    header = ["", *(cell for title, _ in sides for cell in (title, "95 % interval")), "noise floor (95th percentile)"]
    rows = []
    for label, key in _ROWS:
        cells = [cell for _, side in sides for cell in (_cell(side, key), _span(side["intervals"].get(key)))]
        floor = entry["noise_floor"].get(key)
        rows.append((label, *cells, f"{floor['mean']:.4f} ({floor['p95']:.4f})" if floor else ""))
    for coverage in entry.get("accuracy_at_coverage", {}):
        cells = [cell for _, side in sides for cell in (_cell(side.get("accuracy_at_coverage", {}), coverage), "")]
        rows.append((f"accuracy at coverage {coverage}", *cells, ""))
    return Table(f"{name}: n = {entry['n']}{left_out}, fractions, not percent", tuple(header), tuple(rows))


def _ood_table(entries: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = []
    for name, entry in entries.items():
        sides = [(name, entry)]
        if entry["after_temperature"] is not None:
            sides.append((f"{name}, T = {entry['temperature']:.4f}", entry["after_temperature"]))
        for label, side in sides:
            sizes = [str(side["n_in"]), str(side["n_out"])]
            for score, numbers in (("msp", side), *side.get("scores", {}).items()):
                interval = _span(numbers.get("intervals", {}).get("auroc"))
                more = [_cell(numbers, key) for key in _OOD_COLUMNS]
                confidence = _cell(side, "mean_confidence") if score == "msp" else ""
                rows.append((label, _SCORE_NAMES[score], *sizes, _cell(numbers, "auroc"), interval, *more, confidence))
    title = "out of distribution: higher score = more foreign; fractions, not percent"
    return Table(title, (*_OOD_HEADER, "mean confidence"), tuple(rows))


def _cell(numbers: Mapping[str, Any], key: str) -> str:
    """Returns a number as text; empty where it does not exist, "infinite" where JSON has null for it."""
    if key not in numbers:
        return ""
    value = numbers[key]
    return "infinite" if value is None else f"{value:.4f}"


def _span(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"


def _aligned(table: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for label, *cells in table:
        padded = [label.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)
