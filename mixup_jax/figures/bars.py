"""Bars: numbers of several methods side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Drawn, Lines, count_seeds, spread
from mixup_jax.figures.style import BLUE, GREEN, INK, SKY, VERMILLION, drawing_in, on_one_line, show_legend

FILLS = ((SKY, ""), (VERMILLION, "////"), (BLUE, "...."), (GREEN, "xxxx"))
"""The colour and hatching of each number, in order."""
THICKNESS = 0.74  # of all bars of a method together; the rest of the row is empty


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
    for number, by_method in values.items():
        for method, seeds in by_method.items():
            if not len(seeds):
                raise InputError(f"{number} of {method} has no value; expected that of at least one seed")
    thickness = THICKNESS / len(values)
    with drawing_in(ax, 4.3, 0.9 + (0.08 + 0.16 * len(values)) * len(methods)) as axes:
        for series, (number, by_method) in enumerate(values.items()):
            rows = [methods.index(method) for method in by_method]
            _draw_bars(axes, series, number, rows, by_method, thickness)
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
    number: str,
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
            bar.set_label(on_one_line(number))
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
    for series, (number, by_method) in enumerate(values.items()):
        for method, seeds in by_method.items():
            text = f"{number} {spread(seeds)}"
            lines = (method, text, count_seeds(len(seeds)))
            readings[f"curve-{methods.index(method)}.bar-{series}"] = [(line, "") for line in lines]
            words.append(f"{method}: {text}")
    alt = f"{title}, as bars ({label}). {'; '.join(words)}."
    rows = [
        (what, name, value) for what, by_name in values.items() for name, seeds in by_name.items() for value in seeds
    ]
    return Drawn(method_bars(values, label=label), alt, readings, ("number", "method", "value"), rows)
