"""Small tables of the page: AUROC with the numbers that the paper printed, its data sets of text, and differences.

Thulasidasan et al. (2019) print numbers only for out-of-distribution detection: AUROC in percent of the
maximum softmax probability, for VGG-16 trained on STL-10, single networks without a spread.  All other
results are figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixup_jax.report import formatting
from mixup_jax.report.claims import Interval
from mixup_jax.report.comparisons import mean_interval, paired_intervals
from mixup_jax.report.figure import csv_bytes
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import Group
from mixup_jax.report.quantities import Quantity, ood_names
from mixup_jax.report.runs import RunRecord
from mixup_jax.report.workers import RunAll, serially

TRAINED_ON = "stl10"
AUROC = {
    "Baseline": {"gaussian_noise": 0.7328, "imagenet_not_stl10": 0.8057},
    "Dropout": {"gaussian_noise": 0.7057, "imagenet_not_stl10": 0.7893},
    "Mixup": {"gaussian_noise": 0.9593, "imagenet_not_stl10": 0.8328},
}
"""The paper's AUROC as fractions, by its name of the method and the catalogue's name of the OOD set."""
TEXT = {"mr": "MR", "trec": "TREC", "imdb": "IMDB"}
"""The paper's text data sets, by their names in the catalogue."""
TEXT_COLUMNS = (
    Quantity("accuracy", "accuracy"),
    Quantity("ece_15", "ECE, 15 bins"),
    Quantity("ece_100", "ECE, 100 bins"),
    Quantity("oe_15", "OE, 15 bins"),
    Quantity("oe_100", "OE, 100 bins"),
    Quantity("noise_floor/ece_100/mean", "noise floor of ECE, 100 bins"),
    Quantity("after_temperature/ece_15", "ECE, 15 bins, after temperature scaling"),
)

DIFFERENCES = (
    Quantity("accuracy", "Accuracy", "higher"),
    Quantity("nll", "NLL", "lower"),
    Quantity("ece_15", "ECE, 15 bins", "lower"),
    Quantity("oe_15", "OE, 15 bins", "lower"),
)


@dataclass(frozen=True)
class TableFile:
    """A small table of the page, which is also written to a file.

    A row has the tokens of its filters and its cells, of which the first is its name.  `csv` is the same table with all
    digits; `file_name` has no suffix.
    """

    file_name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    csv: bytes


def auroc_table(groups: Sequence[Group], filters: Filters) -> TableFile | None:
    """Returns AUROC of every group on each out-of-distribution set, and the paper's; None if there is none."""
    rows: list[tuple[str, tuple[str, ...]]] = []
    data = []
    for ood in ood_names([run for group in groups for run in group.runs]):
        for group in groups:
            for part, words in (("", ""), ("after_temperature/", ", after temperature scaling")):
                summary = group.summary(Quantity(f"ood/{ood}/{part}auroc", ""))
                if summary is None or (part and group.first.kind != "baseline"):
                    continue
                printed = None if part else printed_auroc(group.first, ood)
                paper = formatting.number(printed)
                pair = f"{group.first.test_name.removesuffix('/test')} → {ood}"
                tokens = f"{filters.of_group(group)} {filters.of_ood(ood)}"
                cells = (group.name + words, pair, formatting.spread(summary), str(summary.n_seeds), paper)
                rows.append((tokens, cells))
                data.append((group.name + words, pair, summary.mean, summary.std, summary.n_seeds, printed))
    if not rows:
        return None
    caption = "AUROC by the winning score."
    header: tuple[str, ...] = ("Method", "Data sets", "AUROC", "Seeds", "The paper")
    if any(printed is not None for *_, printed in data):
        caption = (
            "AUROC by the winning score, and the paper's: of one VGG-16 each, without spread, trained on STL-10. Its "
            "numbers stand where a run has the same two data sets and the same method."
        )
    else:  # no run can be held against the paper, so the column is left out
        header, rows = header[:-1], [(tokens, cells[:-1]) for tokens, cells in rows]
    return TableFile(
        "auroc-beside-the-paper",
        caption,
        header,
        tuple(rows),
        csv_bytes(("method", "data_sets", "auroc_mean", "auroc_std", "n_seeds", "paper"), data),
    )


def name_in_paper(run: RunRecord) -> str | None:
    """Returns the name of a run's method in the paper's table, or None if it has no row for it.

    The paper's dropout is Monte Carlo dropout: several passes of a network that was trained with dropout.
    """
    if run.config is None:
        return None
    kind, dropout = run.config.method.kind, run.config.model.dropout > 0
    if kind == "baseline" and dropout:
        return "Dropout" if list(run.derived) == ["mc_dropout"] else None
    return None if run.derived or dropout else {"baseline": "Baseline", "mixup": "Mixup"}.get(kind)


def printed_auroc(run: RunRecord, ood: str) -> float | None:
    """Returns the paper's AUROC of the same method and the same two data sets, or None if it printed none."""
    if run.config is None or run.config.data.name != TRAINED_ON:
        return None
    return AUROC.get(name_in_paper(run) or "", {}).get(ood)


def text_table(groups: Sequence[Group], filters: Filters) -> TableFile | None:
    """Returns the numbers of the groups trained on one of the paper's text data sets; None if there is none."""
    rows, data = [], []
    for group in groups:
        name = TEXT.get(group.first.config.data.name) if group.first.config else None
        if name is None:
            continue
        summaries = [group.summary(quantity) for quantity in TEXT_COLUMNS]
        named = (group.name, name, str(len(group.runs)))
        rows.append((filters.of_group(group), (*named, *map(formatting.spread, summaries))))
        numbers = [one for summary in summaries for one in ((summary.mean, summary.std) if summary else (None, None))]
        data.append((*named, *numbers))
    columns = [f"{quantity.key}_{part}" for quantity in TEXT_COLUMNS for part in ("mean", "std")]
    table = TableFile(
        "text",
        "Test sets of text; mean ± sample standard deviation over the seeds.",
        ("Method", "Data set", "Seeds", *(quantity.label for quantity in TEXT_COLUMNS)),
        tuple(rows),
        csv_bytes(("method", "data_set", "n_seeds", *columns), data),
    )
    return table if rows else None


def difference_table(groups: Sequence[Group], filters: Filters, run_all: RunAll = serially) -> TableFile | None:
    """Returns every group's numbers minus those of the first, as `compare` does; None if all have a config.

    No claim of the paper is about them.  The intervals are of 95 %, over the same test examples; networks with other
    test labels are not paired, and the table says so.
    """
    first, *others = groups
    if not others or all(group.first.config is not None for group in groups):
        return None
    outside = ood_names([run for group in groups for run in group.runs])
    numbers = [*DIFFERENCES, *(Quantity(f"ood/{name}/auroc", f"AUROC, {name}", "higher") for name in outside)]
    rows: list[tuple[str, tuple[str, ...]]] = []
    data: list[tuple[str | float | None, ...]] = []
    for group in others:
        tokens, refusal = filters.of_group(group), why_not_paired(first, group)
        if refusal:
            rows.append((tokens, (group.name, *[formatting.NONE] * len(numbers), refusal)))
            data.append((group.name, "", None, None, None, refusal))
            continue
        intervals = paired_intervals(first.runs, group.runs, run_all) | _nll(first, group)
        cells = []
        for quantity in numbers:
            one, other = first.summary(quantity), group.summary(quantity)
            difference = other.mean - one.mean if one and other else None
            ends = intervals.get(quantity.key)
            cells.append(_cell(difference, ends, quantity.aim))
            data.append((group.name, quantity.key, difference, *(ends or (None, None)), ""))
        n = len(first.first.test.trained.only_labelled())
        rows.append((tokens, (group.name, *cells, f"paired over {n:,} examples")))
    return TableFile(
        "differences",
        f"Difference from {first.name}, with the 95 % interval over test examples: paired bootstrap (for NLL, normal). "
        "Better and worse are said where the interval excludes 0. It does not cover the variation between trainings.",
        ("Method", *(quantity.label for quantity in numbers), "Examples"),
        tuple(rows),
        csv_bytes(("method", "metric", "difference", "interval_low", "interval_high", "not_paired"), data),
    )


def why_not_paired(one: Group, other: Group) -> str:
    """Returns why the test examples of two groups cannot be paired; empty if they can."""
    labels = one.first.test.labels
    for run in (*one.runs, *other.runs):
        if len(run.test.labels) != len(labels):
            return f"not paired: {len(run.test.labels):,} examples instead of {len(labels):,}"
        if not np.array_equal(run.test.labels, labels):
            count = int((run.test.labels != labels).sum())
            return f"not paired: {count:,} of {len(labels):,} labels differ, or their order"
    return ""


def _nll(one: Group, other: Group) -> dict[str, Interval]:
    losses = [
        -np.mean([run.test.trained.only_labelled().log_likelihood for run in group.runs], axis=0)
        for group in (one, other)
    ]
    if not all(np.isfinite(side).all() for side in losses):
        return {}
    return {"nll": mean_interval(losses[1] - losses[0])}


def _cell(difference: float | None, ends: Interval | None, aim: str) -> str:
    if difference is None:
        return formatting.NONE
    text = formatting.number(difference, signed=True)
    if ends is None:
        return text
    told = "not told apart"
    if min(ends) > 0 or max(ends) < 0:
        told = "better" if (difference > 0) == (aim == "higher") else "worse"
    return f"{text} ({formatting.interval(ends, signed=True)}), {told}"
