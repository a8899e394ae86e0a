"""Figures of confidence: histograms of it, and the error among the most confident examples (risk and coverage)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mixup_jax import metrics
from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Column, Drawn, Lines, add_columns
from mixup_jax.figures.style import LINES, MARKERS, PALE, drawing_in, on_one_line, show_legend
from mixup_jax.metrics.binning import bin_edges, bin_index
from mixup_jax.metrics.softmax import Bools, Floats

HISTOGRAM_BINS = 20
STEPS = 200
READ_AT = 20  # the number of coverages at which the values of the curves are shown
GRID = np.arange(1, STEPS + 1) / STEPS
"""The coverages at which curves of several seeds are averaged: 0.005, 0.01, .., 1."""


def histogram_shares(confidence: Floats) -> Floats:
    """Returns the share of examples in each of 20 equal right-closed bins of confidence, `[20]`, summing to 1."""
    confidence = np.asarray(confidence, np.float64)
    if not confidence.size:
        raise InputError("confidence holds no example; expected at least one")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError(f"confidence goes from {confidence.min()} to {confidence.max()}; expected values in [0, 1]")
    counts = np.bincount(bin_index(confidence, bin_edges(HISTOGRAM_BINS)), minlength=HISTOGRAM_BINS)
    return np.asarray(counts / len(confidence))


def confidence_histogram(
    in_distribution: Floats,
    ood: Mapping[str, Floats] | None = None,
    ax: Axes | None = None,
    *,
    in_name: str = "in-distribution",
    scale: Literal["linear", "log"] = "linear",
    top: float | None = None,
    bottom: float | None = None,
) -> Axes:
    """Draws histograms of a network's confidence in distribution (filled) and on each out-of-distribution set (lines).

    Args:
      in_distribution: confidences `[N]` in [0, 1].
      ood: confidences `[N_k]` of each out-of-distribution set by its name.
      ax: where to draw; None makes a new figure.
      in_name: the name of the in-distribution set in the legend.
      scale: of the shares; on a logarithmic one, an empty bin is below the axis.
      top: the largest share on the axis, to make figures comparable; None fits the data.
      bottom: the smallest share on a logarithmic axis; None is half an example of the largest set.
    """
    ood = ood or {}
    shares = [histogram_shares(confidence) for confidence in (in_distribution, *ood.values())]
    least = 0.0
    if scale == "log":
        least = bottom or 0.5 / max(len(confidence) for confidence in (in_distribution, *ood.values()))
    edges = bin_edges(HISTOGRAM_BINS)
    with drawing_in(ax, 3.45, 3.3) as axes:
        axes.set_yscale(scale)
        label = f"{on_one_line(in_name)}, mean {np.mean(in_distribution):.3f}"
        axes.stairs(shares[0], edges, fill=True, color=PALE, baseline=least, label=label)
        for index, (name, confidence) in enumerate(ood.items()):
            colour, dashes = LINES[index % len(LINES)]
            line = axes.stairs(shares[index + 1], edges, color=colour, linestyle=dashes, linewidth=1.6, baseline=None)
            line.set(label=f"{on_one_line(name)}, mean {np.mean(confidence):.3f}", gid=f"set-{index}.line")
        axes.set(xlim=(0, 1), xlabel="confidence", ylabel="share of examples")
        axes.set_ylim(bottom=least, top=top)
        if scale == "log":
            # The default labels are formulas, which are turned off so that names with dollar signs stay as they are.
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        show_legend(axes, own=ax is None)
    return axes


def confidence_figure(
    in_distribution: Floats,
    ood: Mapping[str, Floats],
    name: str,
    *,
    in_name: str,
    scale: Literal["linear", "log"],
    top: float | None = None,
    bottom: float | None = None,
) -> Drawn:
    """Returns the figure of `confidence_histogram`, whose text calls the network `name`."""
    sets = {in_name: in_distribution, **ood}
    described = "; ".join(
        f"{dataset}: {len(values):,} examples, mean confidence {np.mean(values):.4f}, "
        f"{histogram_shares(values)[-1]:.4f} of them above 0.95"
        for dataset, values in sets.items()
    )
    shares = {dataset: histogram_shares(values) for dataset, values in sets.items()}
    parts = ["", *(f"set-{index}" for index in range(len(ood)))]
    axes = confidence_histogram(in_distribution, ood, in_name=in_name, scale=scale, top=top, bottom=bottom)
    columns = _columns(shares, parts, "confidence")
    columns = [column for m, column in enumerate(columns) if any(share[m] for share in shares.values())]
    alt = f"Histogram of the confidence of {name}. {described}."
    return Drawn(axes, alt, add_columns(axes, columns), ("set", "low", "high", "share"), _share_rows(shares))


def winning_scores(scores: Mapping[str, Sequence[Floats]], ax: Axes | None = None) -> Axes:
    """Draws the histogram of the winning score, the largest softmax probability, of several methods.

    For several seeds it draws the mean of their shares.

    Args:
      scores: by method, the winning scores of each seed, `[N]` in [0, 1].
      ax: where to draw; None makes a new figure.
    """
    shares = {name: mean_shares(seeds, name) for name, seeds in scores.items()}
    edges = bin_edges(HISTOGRAM_BINS)
    with drawing_in(ax, 4.3, 3.0 + 0.17 * len(scores)) as axes:
        for index, (name, share) in enumerate(shares.items()):
            colour, dashes = LINES[index % len(LINES)]
            line = axes.stairs(share, edges, color=colour, linestyle=dashes, linewidth=1.4, baseline=None)
            mean = np.mean([np.mean(seed) for seed in scores[name]])
            line.set(label=f"{on_one_line(name)}, mean {mean:.3f}", gid=f"curve-{index}.line")
        axes.set(xlim=(0, 1), xlabel="winning score", ylabel="share of examples")
        axes.set_ylim(bottom=0)
        show_legend(axes, own=ax is None)
    return axes


def mean_shares(seeds: Sequence[Floats], name: str) -> Floats:
    """Returns the mean over the seeds of `histogram_shares`, `[20]`."""
    if not seeds:
        raise InputError(f"winning scores of {name} hold no seed; expected at least one")
    return np.asarray(np.mean([histogram_shares(seed) for seed in seeds], axis=0))


def winning_scores_figure(scores: Mapping[str, Sequence[Floats]], set_name: str) -> Drawn:
    """Returns the figure of `winning_scores`, whose text calls the data set `set_name`."""
    shares = {name: mean_shares(seeds, name) for name, seeds in scores.items()}
    means = {name: float(np.mean([seed.mean() for seed in seeds])) for name, seeds in scores.items()}
    words = "; ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    axes = winning_scores(scores)
    return Drawn(
        axes,
        f"Histogram of the winning score on {set_name}. Mean winning score: {words}.",
        add_columns(axes, _columns(shares, [f"curve-{index}" for index in range(len(shares))], "winning score")),
        ("method", "score_low", "score_high", "share"),
        _share_rows(shares),
    )


def _share_rows(shares: Mapping[str, Floats]) -> list[tuple[str | float, ...]]:
    """Returns for every set and bin the name of the set, the ends of the bin and the share."""
    cells = list(itertools.pairwise(bin_edges(HISTOGRAM_BINS).tolist()))
    return [(name, *cell, float(one)) for name, share in shares.items() for cell, one in zip(cells, share, strict=True)]


def _columns(shares: Mapping[str, Floats], parts: Sequence[str], what: str) -> list[Column]:
    """Returns a column for each bin, with the share of every set in that bin."""
    columns = []
    for m, (low, high) in enumerate(itertools.pairwise(bin_edges(HISTOGRAM_BINS))):
        named = zip(shares.items(), parts, strict=True)
        lines: Lines = [(f"{name}: {share[m]:.4f} of the examples", part) for (name, share), part in named]
        columns.append(Column(float(low), float(high), [(f"{what} {low:.2f} to {high:.2f}", ""), *lines]))
    return columns


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
