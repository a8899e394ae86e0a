"""The study's figures: changes by mixup against how over-confident ERM is, and against the size of the training set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from mixup_jax.figures.style import BLUE, GREEN, GREY, INK, PALE, SKY, VERMILLION, new_figure, style, to_svg
from studies.settled.intervals import Comparison
from studies.settled.numbers import Regime

COLOURS = {0.1: SKY, 0.2: VERMILLION, 0.4: GREEN, 1.0: BLUE}
SHAPES = {("images", "plain"): "o", ("images", "augmented"): "s", ("texts", "plain"): "^"}
WORDS = {("images", "plain"): "images", ("images", "augmented"): "images, augmented", ("texts", "plain"): "sentences"}
MARKED = {"erm": VERMILLION, "mixup": BLUE}
SHIFT = 0.0006
"""Between the alphas of one regime, so that their intervals stand side by side."""


@dataclass(frozen=True)
class Panel:
    """One plot: changes by mixup (mixup minus ERM), by regime and alpha, over an x value of each regime.

    `line` is an x value that is marked, such as the gap at which a rule changes its answer.
    """

    label: str
    changes: Mapping[tuple[Regime, float], Comparison]
    line: float | None = None


def against_gap(panels: Sequence[Panel], gaps: Mapping[Regime, float]) -> bytes:
    """Returns the panels as SVG, each change at its regime's signed gap of ERM, with its interval."""
    with style():
        figure = new_figure(max(3.6 * len(panels), 6.0), 3.5)  # of one panel the points would touch
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.axhline(0, color=GREY, linewidth=0.8)
            if panel.line is not None:
                axes.axvline(panel.line, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
            for (regime, alpha), change in panel.changes.items():
                place = gaps[regime] + SHIFT * (sorted(COLOURS).index(alpha) - 1.5)
                _point(axes, place, change, COLOURS[alpha], SHAPES[regime.task, regime.plan])
            axes.set(xlabel="signed gap of ERM (confidence \N{MINUS SIGN} accuracy)", ylabel=panel.label)
            axes.xaxis.set_major_locator(MaxNLocator(5))  # more labels would touch
        _explain(figure, {(r.task, r.plan) for panel in panels for r, _ in panel.changes}, _alphas(panels))
        return to_svg(figure)


def against_size(panels: Sequence[Panel]) -> bytes:
    """Returns the panels as SVG, each change at its regime's number of training examples, on a logarithmic axis."""
    with style():
        figure = new_figure(3.6 * len(panels), 3.5)
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.axhline(0, color=GREY, linewidth=0.8)
            for (regime, alpha), change in panel.changes.items():
                place = regime.size * (1 + 0.05 * (sorted(COLOURS).index(alpha) - 1.5))
                _point(axes, place, change, COLOURS[alpha], SHAPES[regime.task, regime.plan])
            sizes = sorted({regime.size for regime, _ in panel.changes})
            axes.set(xscale="log", xlabel="training examples", ylabel=panel.label)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=90, fontsize=6)
            axes.xaxis.set_minor_locator(NullLocator())
        _explain(figure, {(r.task, r.plan) for panel in panels for r, _ in panel.changes}, _alphas(panels))
        return to_svg(figure)


def by_method(panels: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> bytes:
    """Returns the panels as SVG: of each method the value of every seed, and their mean, the lowest on top.

    Args:
      panels: by title, for each method its values, one a seed; ERM and mixup are marked.
      label: what the values are.
    """
    with style():
        figure = new_figure(3.6 * len(panels), 3.2)
        for axes, (title, methods) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            order = sorted(methods, key=lambda method: fmean(methods[method]), reverse=True)
            for place, method in enumerate(order):
                colour = MARKED.get(method, INK)
                axes.plot(methods[method], [place] * len(methods[method]), "o", color=colour, markersize=4, alpha=0.45)
                axes.plot([fmean(methods[method])], [place], "|", color=colour, markersize=12, markeredgewidth=2)
            axes.set_yticks(range(len(order)), order)
            for name, method in zip(axes.get_yticklabels(), order, strict=True):
                name.set_color(MARKED.get(method, INK))
            axes.set(xlabel=label, title=title)
            axes.grid(axis="y", color=PALE, linewidth=0.5)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        return to_svg(figure)


def _point(axes: Axes, place: float, change: Comparison, colour: str, shape: str) -> None:
    axes.plot([place], [change.mean], shape, color=colour, markersize=4.5, markeredgecolor="white", markeredgewidth=0.4)
    axes.plot([place, place], [change.low, change.high], "-", color=colour, linewidth=1.1, alpha=0.7)


def _alphas(panels: Sequence[Panel]) -> list[float]:
    return sorted({alpha for panel in panels for _, alpha in panel.changes})


def _explain(figure: Figure, kinds: set[tuple[str, str]], alphas: Sequence[float]) -> None:
    axes = figure.axes[0]
    keys = [axes.plot([], [], "s", color=COLOURS[alpha], label=f"alpha {alpha:g}")[0] for alpha in alphas]
    keys += [axes.plot([], [], SHAPES[kind], color=INK, label=WORDS[kind])[0] for kind in SHAPES if kind in kinds]
    figure.legend(handles=keys, loc="outside upper left", ncols=2 + len(figure.axes))  # all in a row would be cut off
