"""The document of `evaluation.json` as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
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
    ("mean confidence", "mean_confidence"),
    ("confidence - accuracy", "confidence_minus_accuracy"),
)
_OOD_COLUMNS = ("auroc", "aupr_in", "aupr_out", "fpr95_ood", "fpr95_id", "mean_confidence")


def format_table(document: Mapping[str, Any]) -> str:
    """Returns the document of `evaluate_records` as plain text for a terminal, without a final newline.

    One block for each entry of `results`, with intervals, noise floors and, where a temperature was
    fitted, a second pair of columns after it; then one block for all of `ood`.
    """
    fitted_on = document["temperature_fitted_on"]
    blocks = [
        _result_block(f"{name} (T fitted here)" if name == fitted_on else name, entry)
        for name, entry in document["results"].items()
    ]
    if document["ood"]:
        blocks.append(_ood_block(document["ood"]))
    return "\n\n".join(blocks)


def _result_block(name: str, entry: Mapping[str, Any]) -> str:
    left_out = f" ({entry['unlabelled']} unlabelled left out)" if entry["unlabelled"] else ""
    header = ["", "value", "95 % interval"]
    sides = [entry]
    if entry["after_temperature"] is not None:
        header += [f"T = {entry['temperature']:.4f}", "95 % interval"]
        sides.append(entry["after_temperature"])
    table = [[*header, "noise floor (95th percentile)"]]
    for label, key in _ROWS:
        cells = [cell for side in sides for cell in (_number(side[key]), _span(side["intervals"].get(key)))]
        floor = entry["noise_floor"].get(key)
        table.append([label, *cells, f"{floor['mean']:.4f} ({floor['p95']:.4f})" if floor else ""])
    return f"{name}: n = {entry['n']}{left_out}, fractions, not percent\n{_aligned(table)}"


def _ood_block(entries: Mapping[str, Mapping[str, Any]]) -> str:
    table = [["", "n_in", "n_out", "AUROC", "AUPR-in", "AUPR-out", "FPR95-ood", "FPR95-id", "mean confidence"]]
    for name, entry in entries.items():
        sides = [(name, entry)]
        if entry["after_temperature"] is not None:
            sides.append((f"{name}, T = {entry['temperature']:.4f}", entry["after_temperature"]))
        for label, side in sides:
            sizes = [str(side["n_in"]), str(side["n_out"])]
            table.append([label, *sizes, *(_number(side[key]) for key in _OOD_COLUMNS)])
    return f"out of distribution: score MSP, higher = more foreign; fractions, not percent\n{_aligned(table)}"


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.4f}"


def _span(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"


def _aligned(table: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for label, *cells in table:
        padded = [label.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)
