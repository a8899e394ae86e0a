"""The figures that hold all groups against each other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence

import numpy as np

from mixup_jax import figures
from mixup_jax.figures.curves import seed_curves
from mixup_jax.figures.risk import GRID
from mixup_jax.report import wording
from mixup_jax.report.choices import Choices
from mixup_jax.report.groups import Group, Summary, flatten
from mixup_jax.report.picture import Lines, Picture, Spot, draw
from mixup_jax.report.quantities import Quantity, ood_names

SPREAD = (
    Quantity("accuracy", "Accuracy", "higher"),
    Quantity("ece_15", "ECE, 15 bins", "lower"),
    Quantity("oe_15", "OE, 15 bins", "lower"),
    Quantity("after_temperature/ece_15", "ECE, 15 bins, after temperature scaling", "lower"),
)
SWEPT = SPREAD[:3]
COMPARED = {
    "ECE and OE, as trained": (Quantity("ece_15", "ECE, 15 bins"), Quantity("oe_15", "OE, 15 bins")),
    "ECE, as trained and after temperature scaling": (
        Quantity("ece_15", "as trained"),
        Quantity("after_temperature/ece_15", "after temperature scaling"),
    ),
}
"""The bars of the methods: what each figure shows, and its numbers as they are called there."""
COMPARED_IN = "calibration error, 15 bins"
FEWEST_ALPHAS = 3
NO_PART_OF_A_SWEEP = ("seed", "experiment", "notes", "log_every_steps", "tensorboard", "parallel")
READ_AT = 20
"""Values of a risk-coverage curve can be read off at so many coverages."""


def risk_coverage_picture(groups: Sequence[Group], choices: Choices) -> Picture:
    """Returns the risk-coverage curves of all groups, over one another."""
    outcomes = {group.name: [run.sureness() for run in group.runs] for group in groups}
    tokens = [choices.of_group(group) for group in groups]
    risks = {name: seed_curves(seeds, name).mean(axis=0) for name, seeds in outcomes.items()}
    step = len(GRID) // READ_AT
    spots, words = [], []
    for coverage in np.arange(1, READ_AT + 1) / READ_AT:
        at = {name: float(risk[round(coverage * len(GRID)) - 1]) for name, risk in risks.items()}
        lines = [(f"{name}: error {risk:.4f}", token) for (name, risk), token in zip(at.items(), tokens, strict=True)]
        spots.append(Spot(coverage - step / len(GRID), coverage, [(f"the surest {coverage:.0%}", ""), *lines]))
        if round(coverage * READ_AT) % 5 == 0:
            words.append(f"{coverage:.2f}: " + ", ".join(f"{name} {risk:.4f}" for name, risk in at.items()))
    alt = (
        f"Risk-coverage curves. Error among the surest examples, by the share of examples answered. {'; '.join(words)}."
    )
    axes = figures.risk_coverage(outcomes)
    parts = {f"curve-{index}": token for index, token in enumerate(tokens)}
    return draw("risk-coverage", "risk-coverage", axes, alt, spots=spots, tokens=parts)


def method_pictures(groups: Sequence[Group], choices: Choices) -> list[tuple[str, Picture]]:
    """Returns ECE and OE of all groups as bars, with what each figure shows; none where there is one group."""
    if len(groups) < 2:
        return []
    pictures = []
    for title, quantities in COMPARED.items():
        found = {quantity: summaries_of(groups, quantity) for quantity in quantities}
        if all(found.values()):
            name = f"methods-{wording.slug(title, set())}"
            pictures.append((title, bars_picture(title, COMPARED_IN, found, choices, name=name)))
    return pictures


def summaries_of(groups: Sequence[Group], quantity: Quantity) -> dict[Group, Summary]:
    """Returns a number of every group that has it."""
    return {group: summary for group in groups if (summary := group.summary(quantity))}


def bars_picture(
    title: str, label: str, found: Mapping[Quantity, Mapping[Group, Summary]], choices: Choices, *, name: str
) -> Picture:
    """Returns numbers of several groups as bars; `label` is that of their axis, `name` that of the file."""
    values = {
        quantity.label: {group.name: summary.values for group, summary in summaries.items()}
        for quantity, summaries in found.items()
    }
    # Rows as `method_bars` numbers them: in the order in which the numbers name the groups.
    rows = {group: row for row, group in enumerate(dict.fromkeys(group for one in found.values() for group in one))}
    readings: dict[str, Lines] = {}
    tokens: dict[str, str] = {}
    words = []
    for series, (quantity, summaries) in enumerate(found.items()):
        for group, summary in summaries.items():
            text = f"{quantity.label} {wording.spread(summary)}"
            readings[f"curve-{rows[group]}.bar-{series}"] = [
                (group.name, ""),
                (text, ""),
                (wording.count_seeds(summary.n_seeds), ""),
            ]
            words.append(f"{group.name}: {text}")
            tokens |= _tokens_of_row(rows[group], group, summary, choices)
    axes = figures.method_bars(values, label=label)
    alt = f"{title}, as bars ({label}). {'; '.join(words)}."
    return draw("methods", name, axes, alt, readings=readings, tokens=tokens)


def spread_pictures(groups: Sequence[Group], choices: Choices) -> list[tuple[Quantity, Picture]]:
    """Returns the values of single seeds for the most important numbers; none where every group has one seed."""
    if all(len(group.runs) == 1 for group in groups):
        return []
    outside = [
        Quantity(f"ood/{name}/auroc", f"AUROC, {name}", "higher")
        for name in ood_names([run for group in groups for run in group.runs])
    ]
    pictures = []
    for quantity in (*SPREAD, *outside):
        found = summaries_of(groups, quantity)
        if found:
            name = f"seeds-{wording.slug(quantity.key, set())}"
            pictures.append((quantity, _spread(name, quantity, found, choices)))
    return pictures


def _spread(name: str, quantity: Quantity, found: Mapping[Group, Summary], choices: Choices) -> Picture:
    values = {group.name: summary.values for group, summary in found.items()}
    described = "; ".join(
        f"{group.name}: {wording.spread(summary)} (seeds: {', '.join(map(wording.number, summary.values))})"
        for group, summary in found.items()
    )
    alt = f"{quantity.label} of every seed, with mean and standard deviation. {described}."
    axes, readings = figures.seed_spread(values, label=quantity.label), _seed_readings(found)
    return draw("seeds", name, axes, alt, readings=readings, tokens=_tokens(found, choices))


def _seed_readings(found: Mapping[Group, Summary]) -> dict[str, Lines]:
    readings: dict[str, Lines] = {}
    for row, (group, summary) in enumerate(found.items()):
        readings[f"curve-{row}.mean"] = [(group.name, ""), (f"mean {wording.spread(summary)}", "")]
        traced = len(summary.values) == len(group.runs)
        for index, value in enumerate(summary.values):
            name = group.run_name(group.runs[index]) if traced else group.name
            readings[f"value-{row}-{index}.dot"] = [(f"{name}: {wording.number(value)}", "")]
    return readings


def sweep_pictures(groups: Sequence[Group], choices: Choices) -> list[tuple[Quantity, Picture]]:
    """Returns numbers against mixup's alpha, for groups that differ in nothing else; none below three alphas."""
    families: dict[str, dict[float, Group]] = {}
    for group in groups:
        alpha = group.first.setting("method", "mixup_alpha")
        if isinstance(alpha, int | float) and not isinstance(alpha, bool):
            families.setdefault(settings_but(group, "method.mixup_alpha"), {})[float(alpha)] = group
    swept = [family for family in families.values() if len(family) >= FEWEST_ALPHAS]
    taken: set[str] = set()
    return [
        (quantity, _sweep(wording.slug(f"alpha {quantity.key}", taken), quantity, family, choices))
        for family in swept
        for quantity in SWEPT
    ]


def _sweep(name: str, quantity: Quantity, family: Mapping[float, Group], choices: Choices) -> Picture:
    found = {alpha: summary for alpha in sorted(family) if (summary := family[alpha].summary(quantity))}
    described = "; ".join(f"alpha {alpha:g}: {wording.spread(summary)}" for alpha, summary in found.items())
    alt = f"{quantity.label} against mixup's alpha. {described}."
    axes = figures.alpha_sweep({alpha: summary.values for alpha, summary in found.items()}, label=quantity.label)
    tokens = _tokens({family[alpha]: summary for alpha, summary in found.items()}, choices)
    return draw("alpha", name, axes, alt, spots=_sweep_spots(found, quantity), tokens=tokens)


def _sweep_spots(found: Mapping[float, Summary], quantity: Quantity) -> list[Spot]:
    alphas = list(found)
    middles = [(low + high) / 2 for low, high in itertools.pairwise(alphas)]
    ends = [alphas[0] - (middles[0] - alphas[0]), *middles, alphas[-1] + (alphas[-1] - middles[-1])]
    texts = [
        (f"alpha {alpha:g}", f"{quantity.label} {wording.spread(summary)}", wording.count_seeds(summary.n_seeds))
        for alpha, summary in found.items()
    ]
    columns = zip(ends[:-1], ends[1:], texts, strict=True)
    return [Spot(low, high, [(line, "") for line in lines]) for low, high, lines in columns]


def _tokens(found: Mapping[Group, Summary], choices: Choices) -> dict[str, str]:
    """Returns the tokens of means and of single values, by the ids they have in a figure."""
    tokens: dict[str, str] = {}
    for row, (group, summary) in enumerate(found.items()):
        tokens |= _tokens_of_row(row, group, summary, choices)
    return tokens


def _tokens_of_row(row: int, group: Group, summary: Summary, choices: Choices) -> dict[str, str]:
    tokens = {f"curve-{row}": choices.of_group(group)}
    # Where a run lacks the number, a value cannot be traced to its seed.
    if len(summary.values) == len(group.runs):
        tokens |= {f"value-{row}-{seed}": choices.of_run(group, run) for seed, run in enumerate(group.runs)}
    return tokens


def settings_but(group: Group, *keys: str) -> str:
    """Returns what a group was trained and tested on, but for the settings named, as text that can be compared."""
    run = group.first
    config = flatten({key: setting for key, setting in run.config.items() if key not in NO_PART_OF_A_SWEEP})
    config = {key: setting for key, setting in config.items() if key not in keys}
    checkpoint = run.evaluation.get("checkpoint")
    kept = checkpoint if checkpoint in ("last", "best") else None
    return json.dumps([config, kept, run.test_name, len(run.test.labels)], sort_keys=True, default=str)
