"""Numbers of several seeds: against the strength of mixup, the single values with mean and spread, and as bars."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Column, Drawn, Lines, add_columns, count_seeds, number, spread
from mixup_jax.figures.style import BLUE, GREEN, INK, SKY, VERMILLION, drawing_in, on_one_line, show_legend

FILLS = ((SKY, ""), (VERMILLION, "////"), (BLUE, "...."), (GREEN, "xxxx"))
"""The colour and hatching of each number, in order."""
THICKNESS = 0.74  # of all bars of a method together; the rest of the row is empty


def alpha_sweep(values: Mapping[float, Sequence[float]], ax: Axes | None = None, *, label: str = "") -> Axes:
    """Draws a number against mixup's alpha: means in a band of the standard deviation, and the value of every seed.

    Args:
      values: the number of each seed by alpha >= 0 (0 is training without mixup).
      ax: where to draw; None makes a new figure.
      label: of the number, at its axis.
    """
    if not values or not all(len(seeds) for seeds in values.values()):
        raise InputError("values of the sweep are empty; expected at least one alpha with at least one value each")
    alphas = sorted(values)
    means = [float(np.mean(values[alpha])) for alpha in alphas]
    with drawing_in(ax, 3.45, 2.7) as axes:
        axes.plot(alphas, means, color=BLUE, linewidth=1.3, zorder=2)
        for index, (alpha, mean) in enumerate(zip(alphas, means, strict=True)):
            seeds = values[alpha]
            if len(seeds) > 1:
                reach, gid = float(np.std(seeds, ddof=1)), f"curve-{index}.spread"
                axes.plot([alpha] * 2, [mean - reach, mean + reach], color=BLUE, alpha=0.3, linewidth=6, gid=gid)
            axes.plot(alpha, mean, "D", color=BLUE, markersize=4.5, zorder=3, gid=f"curve-{index}.mean")
            # Beside the mean, which would cover the values.
            beside = axes.transData + ScaledTranslation(0.09, 0, axes.figure.dpi_scale_trans)
            for seed, value in enumerate(seeds if len(seeds) > 1 else ()):
                (dot,) = axes.plot(alpha, value, "o", color="white", markersize=3.5, transform=beside, zorder=4)
                dot.set(markeredgecolor=INK, gid=f"value-{index}-{seed}.dot")
        axes.set(xlabel="mixup's alpha (0: without mixup)", ylabel=label)
        axes.margins(y=0.12)
    return axes


def seed_spread(values: Mapping[str, Sequence[float]], ax: Axes | None = None, *, label: str = "") -> Axes:
    """Draws the value of every seed, and behind the values their mean and sample standard deviation.

    Args:
      values: the value of each seed by name, a line each, the first on top; a single value has no spread.
      ax: where to draw; None makes a new figure.
      label: of the number, at its axis.
    """
    for name, seeds in values.items():
        if not len(seeds):
            raise InputError(f"values of {name} are empty; expected the number of at least one seed")
    with drawing_in(ax, 3.45, 0.75 + 0.46 * len(values)) as axes:
        for index, (name, seeds) in enumerate(values.items()):
            _draw_seeds(axes, index, name, seeds)
        axes.set(ylim=(len(values) - 0.6, -0.75), yticks=[], xlabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))  # more labels of four digits would run into each other
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
    return axes


def _draw_seeds(axes: Axes, row: int, name: str, seeds: Sequence[float]) -> None:
    mean = float(np.mean(seeds))  # one colour for all rows, because rows are named and figures may lack some methods
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


def alpha_sweep_figure(values: Mapping[float, Sequence[float]], label: str) -> Drawn:
    """Returns the figure of `alpha_sweep` for a number called `label`, in ascending order of alpha."""
    alphas = list(values)
    described = "; ".join(f"alpha {alpha:g}: {spread(seeds)}" for alpha, seeds in values.items())
    middles = [(low + high) / 2 for low, high in itertools.pairwise(alphas)]
    ends = [alphas[0] - (middles[0] - alphas[0]), *middles, alphas[-1] + (alphas[-1] - middles[-1])]
    columns = []
    for (low, high), (alpha, seeds) in zip(itertools.pairwise(ends), values.items(), strict=True):
        lines = (f"alpha {alpha:g}", f"{label} {spread(seeds)}", count_seeds(len(seeds)))
        columns.append(Column(low, high, [(line, "") for line in lines]))
    axes = alpha_sweep(values, label=label)
    rows = [(alpha, value) for alpha, seeds in values.items() for value in seeds]
    alt = f"{label} against mixup's alpha. {described}."
    return Drawn(axes, alt, add_columns(axes, columns), ("alpha", label), rows)


def seed_spread_figure(
    values: Mapping[str, Sequence[float]], label: str, seed_names: Mapping[str, Sequence[str]]
) -> Drawn:
    """Returns the figure of `seed_spread` for a number called `label`.

    `seed_names` has the names of the values in `values`.
    """
    readings: dict[str, Lines] = {}
    words = []
    for row, (name, seeds) in enumerate(values.items()):
        readings[f"curve-{row}.mean"] = [(name, ""), (f"mean {spread(seeds)}", "")]
        for index, (value, seed) in enumerate(zip(seeds, seed_names[name], strict=True)):
            readings[f"value-{row}-{index}.dot"] = [(f"{seed}: {number(value)}", "")]
        words.append(f"{name}: {spread(seeds)} (seeds: {', '.join(map(number, seeds))})")
    alt = f"{label} of every seed, with mean and standard deviation. {'; '.join(words)}."
    rows = [(name, value) for name, seeds in values.items() for value in seeds]
    return Drawn(seed_spread(values, label=label), alt, readings, ("method", label), rows)


def method_bars(
    values: Mapping[str, Mapping[str, Sequence[float]]], ax: Axes | None = None, *, label: str = ""
) -> Axes:
    """Draws numbers of several methods as bars: the mean, a line of the sample standard deviation, and every seed.

    There is a row for each method, the first on top.

    Args:
      values: by number, such as "ECE" and "OE" (at most 4), and by method the value of each seed, such as
        `{"ECE": {"erm": [0.07, 0.08], "mixup": [0.02]}}`.  A method that lacks a number has no bar for it.
      ax: where to draw; None makes a new figure.
      label: of the axis of the numbers.
    """
    methods = list(dict.fromkeys(method for by_method in values.values() for method in by_method))
    if not methods or len(values) > len(FILLS):
        raise InputError(
            f"values have {len(values)} numbers of {len(methods)} methods; expected 1 to {len(FILLS)} of at least 1"
        )
    for what, by_method in values.items():
        for method, seeds in by_method.items():
            if not len(seeds):
                raise InputError(f"{what} of {method} has no value; expected that of at least one seed")
    thickness = THICKNESS / len(values)
    with drawing_in(ax, 4.3, 0.9 + (0.08 + 0.16 * len(values)) * len(methods)) as axes:
        for series, (what, by_method) in enumerate(values.items()):
            rows = [methods.index(method) for method in by_method]
            _draw_bars(axes, series, what, rows, by_method, thickness)
        for row, method in enumerate(methods):
            place = row + THICKNESS / 2
            words = axes.text(-0.015, place, on_one_line(method), transform=axes.get_yaxis_transform(), fontsize=8)
            words.set(color=INK, ha="right", va="center", gid=f"curve-{row}.name")
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.set(ylim=(len(methods) - 0.1, -0.15), yticks=[], xlabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.spines["left"].set_visible(False)
        if len(values) > 1:
            show_legend(axes, own=ax is None, ncols=2)
    return axes


def _draw_bars(
    axes: Axes,
    series: int,
    what: str,
    rows: Sequence[int],
    by_method: Mapping[str, Sequence[float]],
    thickness: float,
) -> None:
    colour, hatch = FILLS[series]
    for row, seeds in zip(rows, by_method.values(), strict=True):
        place, mean = row + (series + 0.5) * thickness, float(np.mean(seeds))
        (bar,) = axes.barh(
            place, mean, 0.88 * thickness, color=colour, alpha=0.55, hatch=hatch, edgecolor=INK, linewidth=0.6
        )
        bar.set_gid(f"curve-{row}.bar-{series}")
        if row == rows[0]:
            bar.set_label(on_one_line(what))
        if len(seeds) > 1:
            reach = float(np.std(seeds, ddof=1))
            axes.plot(
                [mean - reach, mean + reach], [place] * 2, color=INK, linewidth=1.4, gid=f"curve-{row}.spread-{series}"
            )
            for seed, value in enumerate(seeds):
                gid = f"value-{row}-{seed}.dot-{series}"
                axes.plot(value, place, "o", color="white", markeredgecolor=INK, markersize=3.2, gid=gid, zorder=4)


def method_bars_figure(values: Mapping[str, Mapping[str, Sequence[float]]], title: str, label: str) -> Drawn:
    """Returns the figure of `method_bars`; `label` is that of the axis of the numbers."""
    methods = list(dict.fromkeys(method for by_method in values.values() for method in by_method))
    readings: dict[str, Lines] = {}
    words = []
    for series, (what, by_method) in enumerate(values.items()):
        for method, seeds in by_method.items():
            text = f"{what} {spread(seeds)}"
            lines = (method, text, count_seeds(len(seeds)))
            readings[f"curve-{methods.index(method)}.bar-{series}"] = [(line, "") for line in lines]
            words.append(f"{method}: {text}")
    alt = f"{title}, as bars ({label}). {'; '.join(words)}."
    rows = [
        (what, name, value) for what, by_name in values.items() for name, seeds in by_name.items() for value in seeds
    ]
    return Drawn(method_bars(values, label=label), alt, readings, ("number", "method", "value"), rows)
