"""Accuracy against confidence, bin by bin: the reliability diagram, and the same as points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mixup_jax.errors import InputError
from mixup_jax.escapes import visible
from mixup_jax.figures.drawn import Column, Drawn, add_columns
from mixup_jax.figures.style import (
    BLUE,
    GREY,
    INK,
    LINES,
    SKY,
    VERMILLION,
    drawing_in,
    new_figure,
    on_one_line,
    show_legend,
    style,
)
from mixup_jax.metrics.binning import Bins
from mixup_jax.metrics.calibration import ece, oe
from mixup_jax.metrics.softmax import Floats

OVER, UNDER = "/" * 4, "\\" * 4
COUNTS_DEPTH = 0.42
"""How far below a reliability diagram its panel of counts extends, as a fraction of the diagram's height."""
LARGEST = 300.0
"""The area, in square points, of a point for all examples."""
SMALLEST = 3.0  # the least area: smaller points could not be seen
SHAPES = ("o", "s", "D", "^", "v", "P")


def wilson_interval(correct: Floats, count: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Returns Wilson's 95 % interval for a proportion, NaN where the count is 0.

    With p = correct / n and z = 1.96: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    (Wilson, 1927).

    Args:
      correct: successes `[M]`.
      count: trials `[M]`.

    Returns:
      Lower and upper ends, each `[M]` in [0, 1].
    """
    z = 1.959963984540054
    n = np.where(count > 0, count, np.nan)
    share = correct / n
    centre = share + z**2 / (2 * n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip((centre - reach) / (1 + z**2 / n), 0, 1), np.clip((centre + reach) / (1 + z**2 / n), 0, 1)


def reliability_diagram(
    bins: Bins, ax: Axes | None = None, *, counts_ax: Axes | None = None, title: str = "", legend: bool = True
) -> Axes:
    """Draws accuracy against confidence, bin by bin, and the number of examples in each bin.

    Solid bars are accuracy.  The hatched part is the gap to the bin's mean confidence: vermillion
    where confidence is higher (over-confident), blue where it is lower.  The dark band is Wilson's
    95 % interval of the accuracy.  The printed ECE and OE are those of `bins`.

    Args:
      bins: M calibration bins; empty ones have no bar.
      ax: where to draw; None makes a new figure, with the numbers of examples below.
      counts_ax: where to draw the numbers of examples; if `ax` is given, None leaves them out.
      title: plain text above the diagram.
      legend: whether to explain the colours.

    Returns:
      The axes of the diagram.

    Raises:
      InputError: the bins hold no example.
    """
    numbers = f"ECE {ece(bins):.4f}, OE {oe(bins):.4f} ({bins.n_bins} bins, n = {bins.n:,})"
    text = f"{visible(title)}\n{numbers}" if title else numbers
    with style():
        own = ax is None
        if ax is None:
            figure = new_figure(3.45, 4.7 if legend else 4.3)
            ax, counts_ax = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
            # Across the whole width, because the axes are too narrow for the numbers.
            figure.suptitle(text, x=0.02, ha="left", color=INK, fontsize=9, linespacing=1.5)
        else:
            ax.set_title(text, loc="left", color=INK, fontsize=9, linespacing=1.5)
        _draw_accuracy(ax, bins)
        if counts_ax is not None:
            _draw_counts(counts_ax, bins)
        (ax if counts_ax is None else counts_ax).set_xlabel("confidence")
        if legend and own:
            ax.figure.legend(handles=_legend(), loc="outside lower center", ncols=2, handlelength=1.6)
        elif legend:
            ax.legend(handles=_legend(), loc="upper left", handlelength=1.6)
    return ax


def _draw_accuracy(axes: Axes, bins: Bins) -> None:
    full = bins.count > 0
    left, width = bins.edges[:-1][full], np.diff(bins.edges)[full]
    accuracy, confidence = bins.accuracy[full], bins.confidence[full]
    over = confidence > accuracy
    axes.bar(left, accuracy, width, align="edge", color=SKY, alpha=0.45, edgecolor="white", linewidth=0.8)
    for chosen, colour, hatch in ((over, VERMILLION, OVER), (~over, BLUE, UNDER)):
        gap = (confidence - accuracy)[chosen]
        bars = axes.bar(
            left[chosen], gap, width[chosen], accuracy[chosen], align="edge", facecolor="none", linewidth=0.8
        )
        for bar in bars:
            bar.set(edgecolor=colour, hatch=hatch)
    low, high = wilson_interval(bins.correct_sum[full], bins.count[full])
    axes.bar(left + 0.36 * width, high - low, 0.28 * width, low, align="edge", color=INK, alpha=0.6, linewidth=0)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")


def _legend() -> list[Patch]:
    return [
        Patch(facecolor=SKY, alpha=0.45, label="accuracy"),
        Patch(facecolor=INK, alpha=0.6, label="its 95 % interval"),
        Patch(facecolor="none", edgecolor=VERMILLION, hatch=OVER, label="over-confident by"),
        Patch(facecolor="none", edgecolor=BLUE, hatch=UNDER, label="under-confident by"),
    ]


def _draw_counts(axes: Axes, bins: Bins) -> None:
    axes.bar(
        bins.edges[:-1], bins.count, np.diff(bins.edges), align="edge", color=GREY, edgecolor="white", linewidth=0.8
    )
    axes.set(yscale="log", ylim=(0.7, max(10.0, 2.0 * float(bins.count.max()))), xlim=(0, 1), ylabel="examples")
    # The default labels are formulas, which are turned off so that names with dollar signs stay as they are.
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def reliability_figure(bins: Bins, name: str, title: str) -> Drawn:
    """Returns the figure of `reliability_diagram`, whose text calls the network `name`."""
    low, high = wilson_interval(bins.correct_sum, bins.count)
    columns, described = [], []
    for m in np.flatnonzero(bins.count):
        confidence, accuracy, count = bins.confidence[m], bins.accuracy[m], int(bins.count[m])
        gap = confidence - accuracy
        side = "over-confident" if gap > 0 else "under-confident"
        lines = (
            f"confidence {bins.edges[m]:.3f} to {bins.edges[m + 1]:.3f}: {count:,} examples",
            f"accuracy {accuracy:.4f} (95 %: {low[m]:.4f} to {high[m]:.4f})",
            f"mean confidence {confidence:.4f}",
            f"{side} by {abs(gap):.4f}" if gap else "confidence equals accuracy",
        )
        columns.append(Column(float(bins.edges[m]), float(bins.edges[m + 1]), [(line, "") for line in lines]))
        described.append(f"{confidence:.3f}, {accuracy:.3f}, {count}")
    alt = (
        f"Reliability diagram of {name}: ECE {ece(bins):.4f} and OE {oe(bins):.4f} with {bins.n_bins} bins on "
        f"{bins.n:,} test examples. "
        f"Mean confidence, accuracy and number of examples, bin by bin where there are any: {'; '.join(described)}."
    )
    axes = reliability_diagram(bins, title=title)
    return Drawn(axes, alt, add_columns(axes, columns, COUNTS_DEPTH))


def bin_scatter(bins: Mapping[str, Bins], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draws every bin as a point at its mean confidence and accuracy; the area is its share of the examples.

    Points below the diagonal are over-confident, those above it under-confident.

    Args:
      bins: by name, such as the name of a method; empty bins have no point.
      ax: where to draw; None makes a new figure.
      title: plain text above the figure.

    Returns:
      The axes.

    Raises:
      InputError: there are no bins, or those of a name hold no example.
    """
    if not bins or not all(one.n for one in bins.values()):
        raise InputError(f"bins of {', '.join(bins) or 'nothing'} hold no example; expected at least one for each name")
    with drawing_in(ax, 3.45, 3.45 + 0.17 * len(bins)) as axes:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        for index, (name, one) in enumerate(bins.items()):
            full = one.count > 0
            colour, _ = LINES[index % len(LINES)]
            shape, areas = SHAPES[index % len(SHAPES)], np.maximum(LARGEST * one.count[full] / one.n, SMALLEST)
            points = axes.scatter(one.confidence[full], one.accuracy[full], s=areas, color=colour, marker=shape)
            points.set(alpha=0.55, edgecolors="white", linewidths=0.5, clip_on=False, gid=f"curve-{index}.points")
            # The legend shows one size for all, because the size of a point has another meaning.
            (key,) = axes.plot([], [], linestyle="", marker=shape, color=colour, alpha=0.7, markersize=6)
            key.set(label=on_one_line(name), gid=f"curve-{index}.line")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence of the bin", ylabel="accuracy of the bin")
        axes.set_aspect("equal")
        axes.set_title(title, loc="left")
        show_legend(axes, own=ax is None)
    return axes


def scatter_figure(bins: Mapping[str, Bins]) -> Drawn:
    """Returns the figure of `bin_scatter`."""
    rows: list[tuple[str | float, ...]] = []
    words = []
    for name, one in bins.items():
        cells = [(one.confidence[m], one.accuracy[m], one.count[m] / one.n) for m in np.flatnonzero(one.count)]
        rows += [(name, *map(float, cell)) for cell in cells]
        described = "; ".join(f"{confidence:.4f}, {accuracy:.4f}, {share:.4f}" for confidence, accuracy, share in cells)
        words.append(f"{name} ({one.n:,} examples): {described}")
    told = "Mean confidence, accuracy and share of the examples of each bin"
    alt = f"Accuracy against confidence. {told}. {' '.join(words)}."
    return Drawn(bin_scatter(bins), alt, columns=("group", "mean_confidence", "accuracy", "share"), rows=rows)
