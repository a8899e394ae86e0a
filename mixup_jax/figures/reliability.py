"""Accuracy against confidence, bin by bin: the reliability diagram, and the same as points."""

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

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
SMALLEST = 16.0  # the least area: smaller points could not be seen
FEW_SHARE, FEWEST = 0.005, 5
"""A bin with less than this share of the examples, or fewer examples than this, is drawn faintly."""
FAINT = 0.3  # how opaque such a bin is, beside the others
BIN_COLUMNS = ("low", "high", "examples", "mean_confidence", "accuracy", "accuracy_low", "accuracy_high")
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


def few(bins: Bins) -> npt.NDArray[np.bool_]:
    """Returns for each bin whether it has so few examples that chance decides its accuracy, bool `[M]`."""
    return np.asarray(bins.count < max(FEWEST, FEW_SHARE * bins.n))


def reliability_diagram(
    bins: Bins, ax: Axes | None = None, *, counts_ax: Axes | None = None, title: str = "", legend: bool = True
) -> Axes:
    """Draws accuracy against confidence, bin by bin, and the number of examples in each bin.

    Solid bars are accuracy.  The hatched part is the gap to the bin's mean confidence: vermillion
    where confidence is higher (over-confident), blue where it is lower.  The dark band is Wilson's
    95 % interval of the accuracy.  Bins of few examples (`few`) are faint.  The printed ECE and OE are those of `bins`.

    Args:
      bins: M calibration bins; empty ones have no bar.
      ax: where to draw; None makes a new figure, with the numbers of examples below.
      counts_ax: where to draw the numbers of examples; if `ax` is given, None leaves them out.
      title: plain text above the diagram.
      legend: whether to explain the colours.
    """
    numbers = f"ECE {ece(bins):.4f}, OE {oe(bins):.4f} ({bins.n_bins} bins, n = {bins.n:,})"
    text = f"{visible(title)}\n{numbers}" if title else numbers
    with style():
        own = ax is None
        if ax is None:
            figure = new_figure(3.45, 4.7) if legend else new_figure(2.95, 3.55)
            ax, counts_ax = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
            # Across the whole width, because the axes are too narrow for the numbers.
            figure.suptitle(text, x=0.02, ha="left", color=INK, fontsize=9 if legend else 7.5, linespacing=1.5)
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
    over, strength = confidence > accuracy, np.where(few(bins), FAINT, 1.0)[full]
    solid = axes.bar(left, accuracy, width, align="edge", color=SKY, edgecolor="white", linewidth=0.8)
    for chosen, colour, hatch in ((over, VERMILLION, OVER), (~over, BLUE, UNDER)):
        gap = (confidence - accuracy)[chosen]
        bars = axes.bar(
            left[chosen], gap, width[chosen], accuracy[chosen], align="edge", facecolor="none", linewidth=0.8
        )
        for bar, opaque in zip(bars, strength[chosen], strict=True):
            bar.set(edgecolor=colour, hatch=hatch, alpha=opaque)
    low, high = wilson_interval(bins.correct_sum[full], bins.count[full])
    reach = axes.bar(left + 0.36 * width, high - low, 0.28 * width, low, align="edge", color=INK, linewidth=0)
    for bar, interval, opaque in zip(solid, reach, strength, strict=True):
        bar.set_alpha(0.45 * opaque)
        interval.set_alpha(0.6 * opaque)
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
    axes.set(ylim=(0, 1.05 * float(bins.count.max())), xlim=(0, 1), ylabel="examples")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def reliability_figure(bins: Bins, name: str, title: str, legend: bool = False) -> Drawn:
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
    axes = reliability_diagram(bins, title=title, legend=legend)
    full = np.flatnonzero(bins.count)
    parts = (bins.edges[:-1], bins.edges[1:], bins.count, bins.confidence, bins.accuracy, low, high)
    rows = [tuple(float(part[m]) for part in parts) for m in full]
    return Drawn(axes, alt, add_columns(axes, columns, COUNTS_DEPTH), BIN_COLUMNS, rows)


def reliability_overlay(bins: Mapping[str, Bins]) -> Axes:
    """Draws a figure of several networks: accuracy against confidence in one diagram, below how confidence is spread.

    A line joins the bins that have examples enough, with Wilson's 95 % interval of each accuracy; bins of few examples
    (`few`) are small hollow points that no line joins.

    Args:
      bins: by name, with the same edges; empty bins have no point.
    """
    first = next(iter(bins.values()), None)
    if first is None or not all(one.n for one in bins.values()):
        raise InputError(f"bins of {', '.join(bins) or 'nothing'} hold no example; expected at least one for each name")
    if not all(np.array_equal(one.edges, first.edges) for one in bins.values()):
        raise InputError(f"bins of {', '.join(bins)} have different edges; expected the same for all names")
    with style():
        figure = new_figure(4.6, 4.7 + 0.09 * len(bins))
        ax, counts_ax = figure.subplots(2, 1, height_ratios=(5, 1), sharex=True)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        for index, (name, one) in enumerate(bins.items()):
            colour, dashes = LINES[index % len(LINES)]
            shape, part = SHAPES[index % len(SHAPES)], f"curve-{index}"
            known, sparse = (one.count > 0) & ~few(one), (one.count > 0) & few(one)
            low, high = wilson_interval(one.correct_sum[known], one.count[known])
            ax.vlines(one.confidence[known], low, high, color=colour, alpha=0.45, linewidth=1.6).set_gid(
                f"{part}.reach"
            )
            (line,) = ax.plot(one.confidence[known], one.accuracy[known], color=colour, linestyle=dashes, linewidth=1.4)
            line.set(marker=shape, markersize=4.5, gid=f"{part}.line", label=on_one_line(name), zorder=3)
            (dots,) = ax.plot(one.confidence[sparse], one.accuracy[sparse], shape, color="white", markersize=3)
            dots.set(markeredgecolor=colour, alpha=0.6, gid=f"{part}.few")
            for points, drawn in ((line, known), (dots, sparse)):
                # A line of no points that is not clipped would count in the layout, at the corner of the figure.
                points.set_clip_on(not drawn.any())
            share = counts_ax.stairs(one.count / one.n, one.edges, color=colour, linestyle=dashes, linewidth=1.2)
            share.set_gid(f"{part}.shares")
        ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        counts_ax.set(xlim=(0, 1), xlabel="confidence", ylabel="share")
        counts_ax.set_ylim(bottom=0)
        show_legend(ax, own=True)
    return ax


def overlay_figure(bins: Mapping[str, Bins]) -> Drawn:
    """Returns the figure of `reliability_overlay`."""
    columns, rows, words = [], list[tuple[str | float, ...]](), []
    edges = next(iter(bins.values())).edges
    for m, (left, right) in enumerate(itertools.pairwise(map(float, edges))):
        lines = [
            (f"{name}: accuracy {one.accuracy[m]:.4f} of {int(one.count[m]):,}, mean confidence "
             f"{one.confidence[m]:.4f}", f"curve-{index}")
            for index, (name, one) in enumerate(bins.items()) if one.count[m]
        ]  # fmt: skip
        if lines:
            columns.append(Column(left, right, [(f"confidence {left:.3f} to {right:.3f}", ""), *lines]))
    for name, one in bins.items():
        full = np.flatnonzero(one.count)
        cells = [(float(one.confidence[m]), float(one.accuracy[m]), int(one.count[m])) for m in full]
        rows += [(name, *cell) for cell in cells]
        words.append(f"{name}: " + "; ".join(f"{c:.4f}, {a:.4f}, {n}" for c, a, n in cells))
    alt = (
        "Accuracy against confidence, as trained, of all seeds together. Mean confidence, accuracy and number of "
        f"examples of each bin. {' '.join(words)}."
    )
    axes = reliability_overlay(bins)
    readings = add_columns(axes, columns, 0.3)
    return Drawn(axes, alt, readings, ("group", "mean_confidence", "accuracy", "examples"), rows)


def bin_scatter(bins: Mapping[str, Bins], ax: Axes | None = None) -> Axes:
    """Draws every bin as a point at its mean confidence and accuracy; the area is its share of the examples.

    Points below the diagonal are over-confident, those above it under-confident.

    Args:
      bins: by name, such as the name of a method; empty bins have no point.
      ax: where to draw; None makes a new figure.
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
            points.set(alpha=0.7, edgecolors=INK, linewidths=0.5, clip_on=False, gid=f"curve-{index}.points")
            # The legend shows one size for all, because the size of a point has another meaning.
            (key,) = axes.plot([], [], linestyle="", marker=shape, color=colour, alpha=0.7, markersize=6)
            key.set(label=on_one_line(name), gid=f"curve-{index}.line")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence of the bin", ylabel="accuracy of the bin")
        axes.set_aspect("equal")
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
