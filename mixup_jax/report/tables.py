"""The main table in Markdown, LaTeX and CSV: mean, sample standard deviation and n of every group."""

from collections.abc import Callable, Mapping, Sequence

from mixup_jax import escapes
from mixup_jax.report import formatting
from mixup_jax.report.figure import csv_bytes
from mixup_jax.report.groups import Group, best_of, summaries_of
from mixup_jax.report.quantities import Quantity, Section, examples, interval, ood_names

NOTE = "Mean ± sample standard deviation over seeds. Fractions, not percent. n is the number of test examples."

CSV_COLUMNS = (
    *("group", "kind", "test_set", "seeds", "section", "metric", "label", "bins", "n"),
    *("mean", "std", "n_seeds", "interval_low", "interval_high"),
)


def markdown_table(groups: Sequence[Group], sections: Sequence[Section]) -> str:
    """Returns the main table in Markdown: mean ± sample standard deviation, and n, for every group."""
    header = [escapes.markdown(group.name) + f" ({formatting.seeds(group.seeds)})" for group in groups]
    lines = [line(["number", "n", *header]), line(["---", "---", *["---:"] * len(groups)])]
    for section in sections:
        rows = [_row(groups, quantity, escapes.markdown) for quantity in section.quantities]
        if any(rows):
            lines.append(line([f"**{escapes.markdown(section.title)}**", "", *[""] * len(groups)]))
            lines += [line(row) for row in rows if row]
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


PAPER_TABLES = {
    "calibration": (
        "Accuracy and calibration on the test set; ECE and OE over 15 bins, and ECE after temperature scaling ($T$)",
        {
            "accuracy": "Accuracy", "nll": "NLL", "brier": "Brier", "ece_15": "ECE", "oe_15": "OE",
            "after_temperature/ece_15": "ECE ($T$)",
        },
    ),
    "selective": (
        "Selective prediction on the test set: accuracy on the share of examples of highest confidence",
        {
            "aurc": "AURC", "accuracy_at_coverage/0.95": "0.95", "accuracy_at_coverage/0.9": "0.9",
            "accuracy_at_coverage/0.8": "0.8",
        },
    ),
}  # fmt: skip
"""The tables of paper.tex by the ends of their labels: what each shows, in LaTeX, and the heads of its columns."""
DETECTED = {"auroc": "AUROC", "aupr_out": "AUPR", "fpr95_ood": "FPR95", "mean_confidence": "Mean confidence"}


def latex_of_paper(groups: Sequence[Group], sections: Sequence[Section]) -> str:
    r"""Returns floating LaTeX tables (package booktabs) with captions and labels, a row for every group.

    The best mean of a column is bold, and every mean that is tied with it (`groups.best_of`).  All numbers are those of
    the test set and of the out-of-distribution sets; validation is not mixed in.
    """
    by_key = {quantity.key: quantity for section in sections for quantity in section.quantities}
    wanted = dict(PAPER_TABLES)
    for name in ood_names([run for group in groups for run in group.runs]):
        heads = {f"ood/{name}/{key}": head for key, head in DETECTED.items()}
        shown = f"Detection of {escapes.latex(name)} by the winning score"
        wanted[f"ood-{formatting.slug(name, set())}"] = (shown, heads)
    written = [r"% Needs \usepackage{booktabs}. Fractions, not percent; arrows show the better direction."]
    for label, (shown, heads) in wanted.items():
        found = {by_key[key]: head for key, head in heads.items() if key in by_key}
        columns = {one: head for one, head in found.items() if any(group.summary(one) for group in groups)}
        rows = [group for group in groups if any(group.summary(one) for one in columns)]
        if rows:
            written.append(_floating(rows, columns, shown, label))
    return "\n\n".join(written) + "\n"


def _floating(groups: Sequence[Group], columns: Mapping[Quantity, str], shown: str, label: str) -> str:
    best = {quantity: best_of(groups, quantity) for quantity in columns}

    def cell(group: Group, quantity: Quantity) -> str:
        summary = group.summary(quantity)
        if summary is None:
            return "--"
        mean = escapes.latex(formatting.number(summary.mean, signed=quantity.signed))
        bold = rf"\textbf{{{mean}}}" if group in best[quantity] else mean
        return bold if summary.std is None else rf"{bold} {{\scriptsize $\pm$ {summary.std:.4f}}}"

    counted = dict.fromkeys(filter(None, (examples(group.first, next(iter(columns))) for group in groups)))
    seeds = {len(group.runs) for group in groups}
    spread = "Mean $\\pm$ sample standard deviation over seeds. " if seeds != {1} else ""
    caption = (
        f"{shown}. {spread}Bold: the best, and those whose 95\\,\\% interval overlaps with its "
        f"({'over seeds' if seeds != {1} else 'over test examples'}). "
        f"Test examples: {escapes.latex('; '.join(counted))}."
    )
    arrows = {"lower": r" $\downarrow$", "higher": r" $\uparrow$"}
    header = ["Method", *(head + arrows.get(one.aim, "") for one, head in columns.items())]
    rows = [_latex_line([escapes.latex(group.name), *(cell(group, one) for one in columns)]) for group in groups]
    return "\n".join([
        r"\begin{table*}[t]", r"\centering", r"\small",
        rf"\caption{{{caption}}}", rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", _latex_line(header), r"\midrule",
        *rows, r"\bottomrule", r"\end{tabular}", r"\end{table*}",
    ])  # fmt: skip


def csv_table(groups: Sequence[Group], sections: Sequence[Section]) -> bytes:
    """Returns one line for each group and number, with all digits; the cell of a missing number is empty.

    The interval is that of a single seed over test examples.
    """
    rows = []
    for section in sections:
        for quantity in section.quantities:
            for group, summary in summaries_of(groups, quantity).items():
                low, high = (interval(group.first, quantity) if len(group.runs) == 1 else None) or (None, None)
                named = [group.name, group.first.kind, group.first.test_name, " ".join(map(str, group.seeds))]
                described = [section.title, quantity.key, quantity.label]
                counted = [quantity.bins, examples(group.first, quantity).replace(",", "")]
                rows.append([*named, *described, *counted, summary.mean, summary.std, summary.n_seeds, low, high])
    return csv_bytes(CSV_COLUMNS, rows)


def _row(groups: Sequence[Group], quantity: Quantity, escape: Callable[[str], str]) -> list[str]:
    summaries = [group.summary(quantity) for group in groups]
    if not any(summaries):
        return []
    counted = dict.fromkeys(filter(None, (examples(group.first, quantity) for group in groups)))
    cells = [formatting.spread(summary, signed=quantity.signed) for summary in summaries]
    return [escape(quantity.label), "; ".join(counted), *map(escape, cells)]


def line(cells: Sequence[str]) -> str:
    """Returns a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
