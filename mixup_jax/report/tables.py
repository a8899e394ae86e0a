"""The main table in Markdown, LaTeX and CSV: mean, sample standard deviation and n of every group."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from mixup_jax import escapes
from mixup_jax.report import formatting
from mixup_jax.report.groups import Group
from mixup_jax.report.quantities import Quantity, Section, examples, interval

NOTE = "Mean ± sample standard deviation over seeds. Fractions, not percent. n is the number of test examples."

CSV_COLUMNS = (
    *("group", "kind", "test_set", "seeds", "section", "metric", "label", "bins", "n"),
    *("mean", "std", "n_seeds", "interval_low", "interval_high"),
)


def markdown_table(groups: Sequence[Group], sections: Sequence[Section]) -> str:
    """Returns the main table in Markdown: mean ± sample standard deviation, and n, for every group."""
    header = [escapes.markdown(group.name) + f" ({formatting.seeds(group.seeds)})" for group in groups]
    lines = [_line(["number", "n", *header]), _line(["---", "---", *["---:"] * len(groups)])]
    for section in sections:
        rows = [_row(groups, quantity, escapes.markdown) for quantity in section.quantities]
        if any(rows):
            lines.append(_line([f"**{escapes.markdown(section.title)}**", "", *[""] * len(groups)]))
            lines += [_line(row) for row in rows if row]
    return "\n".join(lines) + f"\n\n{NOTE}\n"


def latex_table(groups: Sequence[Group], sections: Sequence[Section]) -> str:
    r"""Returns the main table as a LaTeX tabular of the package booktabs, to be read with \input."""
    header = [rf"\textbf{{{escapes.latex(group.name)}}}" for group in groups]
    below = [escapes.latex(formatting.seeds(group.seeds)) for group in groups]
    lines = [
        f"% {NOTE.replace('±', '+-')} Needs \\usepackage{{booktabs}}.",
        rf"\begin{{tabular}}{{lr{'r' * len(groups)}}}",
        r"\toprule",
        _latex_line(["", "$n$", *header]),
        _latex_line(["", "", *below]),
    ]
    for section in sections:
        rows = [_row(groups, quantity, escapes.latex) for quantity in section.quantities]
        if any(rows):
            lines += [r"\midrule", rf"\multicolumn{{{len(groups) + 2}}}{{l}}{{{escapes.latex(section.title)}}} \\"]
            lines += [_latex_line(row) for row in rows if row]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_table(groups: Sequence[Group], sections: Sequence[Section]) -> str:
    """Returns one line for each group and number, with all digits; the cell of a missing number is empty.

    The interval is that of a single seed over test examples.  An apostrophe precedes text that a spreadsheet
    would take for a formula.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for section in sections:
        for quantity in section.quantities:
            for group in groups:
                summary = group.summary(quantity)
                if summary is None:
                    continue
                low, high = (interval(group.first, quantity) if len(group.runs) == 1 else None) or (None, None)
                named = [group.name, group.first.kind, group.first.test_name, " ".join(map(str, group.seeds))]
                described = [section.title, quantity.key, quantity.label]
                counted = [quantity.bins, examples(group.first, quantity).replace(",", "")]
                numbers = [summary.mean, summary.std, summary.n_seeds, low, high]
                writer.writerow([*map(escapes.spreadsheet, [*named, *described]), *counted, *numbers])
    return buffer.getvalue()


def _row(groups: Sequence[Group], quantity: Quantity, escape: Callable[[str], str]) -> list[str]:
    summaries = [group.summary(quantity) for group in groups]
    if not any(summaries):
        return []
    counted = dict.fromkeys(filter(None, (examples(group.first, quantity) for group in groups)))
    cells = [formatting.spread(summary, signed=quantity.signed) for summary in summaries]
    return [escape(quantity.label), "; ".join(counted), *map(escape, cells)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
