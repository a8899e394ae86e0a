"""Differences between networks that no claim of the paper is about, as those of `compare`.

They are taken from the first group of the page, over the same test examples, wherever a group has no config that says
how it was trained.  Networks with other test labels are not paired: the table says so.
"""

from collections.abc import Sequence

import numpy as np

from mixup_jax.report import formatting
from mixup_jax.report.claims import Interval
from mixup_jax.report.comparisons import mean_interval, paired_intervals
from mixup_jax.report.figure import csv_bytes
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import Group
from mixup_jax.report.paper_tables import TableFile
from mixup_jax.report.quantities import Quantity, ood_names
from mixup_jax.report.workers import RunAll, serially

NUMBERS = (
    Quantity("accuracy", "Accuracy", "higher"),
    Quantity("nll", "NLL", "lower"),
    Quantity("ece_15", "ECE, 15 bins", "lower"),
    Quantity("oe_15", "OE, 15 bins", "lower"),
)


def difference_table(groups: Sequence[Group], filters: Filters, run_all: RunAll = serially) -> TableFile | None:
    """Returns every group's numbers minus those of the first, with 95 % intervals; None if all have a config."""
    first, *others = groups
    if not others or all(group.first.config is not None for group in groups):
        return None
    outside = ood_names([run for group in groups for run in group.runs])
    numbers = [*NUMBERS, *(Quantity(f"ood/{name}/auroc", f"AUROC, {name}", "higher") for name in outside)]
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
