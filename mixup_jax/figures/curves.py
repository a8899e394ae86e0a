"""Lines: error against coverage, numbers against the strength of mixup, values by seed, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from mixup_jax.errors import InputError
from mixup_jax.figures.risk import GRID, risk_at_grid
from mixup_jax.figures.style import (
    BLUE,
    INK,
    LINES,
    MARKERS,
    VERMILLION,
    new_figure,
    on_one_line,
    show_legend,
    style,
)
from mixup_jax.metrics.softmax import Bools, Floats


def risk_coverage(
    outcomes: Mapping[str, Sequence[tuple[Floats, Bools]]], ax: Axes | None = None, *, title: str = ""
) -> Axes:
    """Draws the error among the surest examples against the share of examples answered.

    Of several seeds the mean is drawn, over a band from the lowest to the highest of them.  Equally sure
    examples count by expectation over their orders, as in `metrics.risk_coverage`.

    Args:
      outcomes: by name, for each seed how sure the network is of each example, such as its confidence, `[N]`, and
        whether each is correct `[N]`.
      ax: where to draw; None makes a figure of its own.
      title: plain text above the figure.

    Returns:
      The axes.

    Raises:
      InputError: a name has no seed, or its arrays cannot be used.
    """
    curves = {name: seed_curves(seeds, name) for name, seeds in outcomes.items()}
    with style():
        own = ax is None
        if ax is None:
            ax = new_figure(4.3, 3.0 + 0.17 * len(outcomes)).subplots()
        for index, (name, values) in enumerate(curves.items()):
            colour, dashes = LINES[index % len(LINES)]
            # Not at the same places: where curves run together, their shapes stand side by side.
            marker, places = MARKERS[index % len(MARKERS)], (3 * index % 25, 25)
            if len(values) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                ax.fill_between(GRID, low, high, color=colour, alpha=0.15, linewidth=0, gid=f"curve-{index}.band")
            label = on_one_line(name) + (f", mean of {len(values)} seeds" if len(values) > 1 else "")
            (line,) = ax.plot(GRID, values.mean(axis=0), color=colour, linestyle=dashes, linewidth=1.5, label=label)
            line.set(gid=f"curve-{index}.line", marker=marker, markersize=4, markevery=places)
        ax.set(xlim=(0, 1), xlabel="coverage: share of examples answered", ylabel="error among them")
        ax.set_ylim(bottom=0)
        ax.set_title(title, loc="left", color=INK)
        show_legend(ax, own=own)
    return ax


def seed_curves(seeds: Sequence[tuple[Floats, Bools]], name: str) -> Floats:
    """Returns the risk of every seed at the coverages of `risk.GRID`, `[seeds, 200]`."""
    if not seeds:
        raise InputError(f"outcomes of {name} hold no seed; expected at least one pair of confidence and correctness")
    return np.stack([risk_at_grid(sureness, correct) for sureness, correct in seeds])


def alpha_sweep(values: Mapping[float, Sequence[float]], ax: Axes | None = None, *, label: str = "") -> Axes:
    """Draws a number against mixup's alpha: means in a band of the standard deviation, and every seed beside them.

    Args:
      values: by alpha, >= 0 (0 is training without mixup), the number of each seed.
      ax: where to draw; None makes a figure of its own.
      label: of the number, at its axis.

    Returns:
      The axes.

    Raises:
      InputError: there is no alpha, or one of them has no value.
    """
    if not values or not all(len(seeds) for seeds in values.values()):
        raise InputError("values of the sweep are empty; expected at least one alpha with at least one value each")
    alphas = sorted(values)
    means = [float(np.mean(values[alpha])) for alpha in alphas]
    with style():
        if ax is None:
            ax = new_figure(3.45, 2.7).subplots()
        ax.plot(alphas, means, color=BLUE, linewidth=1.3, zorder=2)
        for index, (alpha, mean) in enumerate(zip(alphas, means, strict=True)):
            seeds = values[alpha]
            if len(seeds) > 1:
                reach, gid = float(np.std(seeds, ddof=1)), f"curve-{index}.spread"
                ax.plot([alpha] * 2, [mean - reach, mean + reach], color=BLUE, alpha=0.3, linewidth=6, gid=gid)
            ax.plot(alpha, mean, "D", color=BLUE, markersize=4.5, zorder=3, gid=f"curve-{index}.mean")
            # Beside the mean, which would cover them.
            beside = ax.transData + ScaledTranslation(0.09, 0, ax.figure.dpi_scale_trans)
            for seed, value in enumerate(seeds if len(seeds) > 1 else ()):
                (dot,) = ax.plot(alpha, value, "o", color="white", markersize=3.5, transform=beside, zorder=4)
                dot.set(markeredgecolor=INK, gid=f"value-{index}-{seed}.dot")
        ax.set(xlabel="mixup's alpha (0: without mixup)", ylabel=label)
        ax.margins(y=0.12)
    return ax


def seed_spread(values: Mapping[str, Sequence[float]], ax: Axes | None = None, *, label: str = "") -> Axes:
    """Draws the value of every seed, and behind them the mean and its sample standard deviation.

    Args:
      values: by name, the value of each seed; one value is drawn without a spread.
      ax: where to draw; None makes a figure of its own.
      label: of the number, at its axis.

    Returns:
      The axes; a line for each name, the first on top.

    Raises:
      InputError: a name has no value.
    """
    for name, seeds in values.items():
        if not len(seeds):
            raise InputError(f"values of {name} are empty; expected the number of at least one seed")
    with style():
        if ax is None:
            ax = new_figure(3.45, 0.75 + 0.46 * len(values)).subplots()
        for index, (name, seeds) in enumerate(values.items()):
            _draw_seeds(ax, index, name, seeds)
        ax.set(ylim=(len(values) - 0.6, -0.75), yticks=[], xlabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))  # more labels of four digits would run into each other
        ax.spines["left"].set_visible(False)
        ax.margins(x=0.08)
    return ax


def _draw_seeds(axes: Axes, row: int, name: str, seeds: Sequence[float]) -> None:
    mean = float(np.mean(seeds))  # all in one colour: rows are named, and a figure may lack some methods of another
    if len(seeds) > 1:
        reach = float(np.std(seeds, ddof=1))
        axes.plot(
            [mean - reach, mean + reach], [row, row], color=BLUE, alpha=0.3, linewidth=7, gid=f"curve-{row}.spread"
        )
    axes.plot([mean, mean], [row - 0.2, row + 0.2], color=BLUE, linewidth=1.8, gid=f"curve-{row}.mean")
    for seed, value in enumerate(seeds):
        axes.plot(
            value, row, "o", color="white", markeredgecolor=INK, markersize=4.5, gid=f"value-{row}-{seed}.dot", zorder=3
        )
    words = axes.text(0, row - 0.27, on_one_line(name), transform=axes.get_yaxis_transform(), fontsize=8, color=INK)
    words.set_gid(f"curve-{row}.name")


def training_curve(loss: Sequence[tuple[float, float]], accuracy: Sequence[tuple[float, float]]) -> Figure:
    """Draws training loss and validation accuracy over the epochs, one above the other.

    Args:
      loss: (epoch, training loss) in order of epochs.
      accuracy: (epoch, validation accuracy in [0, 1]), likewise.

    Returns:
      The figure.
    """
    with style():
        figure = new_figure(3.45, 2.7)
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes, points, colour in ((top, loss, VERMILLION), (bottom, accuracy, BLUE)):
            axes.plot(
                *np.transpose(points), color=colour, linewidth=1.4, marker="o" if len(points) < 12 else "", markersize=3
            )
        top.set_ylabel("training loss")
        bottom.set(xlabel="epoch", ylabel="validation acc.")
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        figure.align_ylabels()
    return figure
