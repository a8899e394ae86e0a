"""Risk and coverage: the error among the most confident examples against the share of examples answered."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Column, Drawn, add_columns
from mixup_jax.figures.style import LINES, MARKERS, drawing_in, on_one_line, show_legend
from mixup_jax.metrics.softmax import Bools, Floats

STEPS = 200
READ_AT = 20  # the number of coverages at which the values of the curves are shown
GRID = np.arange(1, STEPS + 1) / STEPS
"""The coverages at which curves of several seeds are averaged: 0.005, 0.01, .., 1."""


def risk_at_grid(confidence: Floats, correct: Bools) -> Floats:
    """Returns the error among the ceil(c N) most confident examples for every coverage c of `GRID`, `[200]` in [0, 1].

    Ties count by expectation over their orders, as in `metrics.risk_coverage`.

    Args:
      confidence: `[N]`, N >= 1.
      correct: bool `[N]`.
    """
    risk = metrics.risk_coverage(-np.asarray(confidence, np.float64), correct).risk
    # In whole numbers, because ceil(0.55 * 100) is 56 in floating point.
    answered = -(-np.arange(1, STEPS + 1) * len(risk) // STEPS)
    return risk[answered - 1]


def risk_coverage(outcomes: Mapping[str, Sequence[tuple[Floats, Bools]]], ax: Axes | None = None) -> Axes:
    """Draws the error among the most confident examples against the share of examples answered.

    For several seeds it draws the mean, over a band from the lowest to the highest value.  Ties count by
    expectation over their orders, as in `metrics.risk_coverage`.

    Args:
      outcomes: by name, for each seed the confidence of each example `[N]` and whether it is correct `[N]`.
      ax: where to draw; None makes a new figure.
    """
    curves = {name: seed_curves(seeds, name) for name, seeds in outcomes.items()}
    with drawing_in(ax, 4.3, 3.0 + 0.17 * len(outcomes)) as axes:
        for index, (name, values) in enumerate(curves.items()):
            colour, dashes = LINES[index % len(LINES)]
            # At different places, so that the markers of overlapping curves are side by side.
            marker, places = MARKERS[index % len(MARKERS)], (3 * index % 25, 25)
            if len(values) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(GRID, low, high, color=colour, alpha=0.15, linewidth=0, gid=f"curve-{index}.band")
            label = on_one_line(name) + (f", mean of {len(values)} seeds" if len(values) > 1 else "")
            (line,) = axes.plot(GRID, values.mean(axis=0), color=colour, linestyle=dashes, linewidth=1.5, label=label)
            line.set(gid=f"curve-{index}.line", marker=marker, markersize=4, markevery=places)
        axes.set(xlim=(0, 1), xlabel="coverage: share of examples answered", ylabel="error among them")
        axes.set_ylim(bottom=0)
        show_legend(axes, own=ax is None)
    return axes


def seed_curves(seeds: Sequence[tuple[Floats, Bools]], name: str) -> Floats:
    """Returns the risk of every seed at the coverages of `GRID`, `[seeds, 200]`."""
    if not seeds:
        raise InputError(f"outcomes of {name} hold no seed; expected at least one pair of confidence and correctness")
    return np.stack([risk_at_grid(confidence, correct) for confidence, correct in seeds])


def risk_coverage_figure(outcomes: Mapping[str, Sequence[tuple[Floats, Bools]]]) -> Drawn:
    """Returns the figure of `risk_coverage`."""
    risks = {name: seed_curves(seeds, name).mean(axis=0) for name, seeds in outcomes.items()}
    columns, words = [], []
    for coverage in np.arange(1, READ_AT + 1) / READ_AT:
        at = {name: float(risk[round(coverage * STEPS) - 1]) for name, risk in risks.items()}
        lines = [(f"{name}: error {risk:.4f}", f"curve-{index}") for index, (name, risk) in enumerate(at.items())]
        columns.append(Column(coverage - 1 / READ_AT, coverage, [(f"the surest {coverage:.0%}", ""), *lines]))
        if round(coverage * READ_AT) % 5 == 0:
            words.append(f"{coverage:.2f}: " + ", ".join(f"{name} {risk:.4f}" for name, risk in at.items()))
    alt = (
        f"Risk-coverage curves. Error among the surest examples, by the share of examples answered. {'; '.join(words)}."
    )
    axes = risk_coverage(outcomes)
    rows = [(name, *pair) for name, risk in risks.items() for pair in zip(GRID.tolist(), risk.tolist(), strict=True)]
    return Drawn(axes, alt, add_columns(axes, columns), ("method", "coverage", "error"), rows)
