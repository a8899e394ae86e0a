"""Accuracy against confidence as points, bin by bin."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from mixup_jax.errors import InputError
from mixup_jax.figures.style import GREY, LINES, new_figure, on_one_line, show_legend, style
from mixup_jax.metrics.binning import Bins

LARGEST = 300.0
"""Area, in square points, of a point that holds all examples."""
SMALLEST = 3.0  # what is smaller could not be seen
SHAPES = ("o", "s", "D", "^", "v", "P")


def bin_scatter(bins: Mapping[str, Bins], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draws every bin as a point at its mean confidence and accuracy, of an area as its share of the examples.

    Points below the diagonal are over-confident, those above it under-confident.

    Args:
      bins: by name, such as a method's; empty bins have no point.
      ax: where to draw; None makes a figure of its own.
      title: plain text above the figure.

    Returns:
      The axes.

    Raises:
      InputError: a name's bins hold no example, or there is no name.
    """
    if not bins or not all(one.n for one in bins.values()):
        raise InputError(f"bins of {', '.join(bins) or 'nothing'} hold no example; expected at least one for each name")
    with style():
        own = ax is None
        if ax is None:
            ax = new_figure(3.45, 3.45 + 0.17 * len(bins)).subplots()
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        for index, (name, one) in enumerate(bins.items()):
            full = one.count > 0
            colour, _ = LINES[index % len(LINES)]
            shape, areas = SHAPES[index % len(SHAPES)], np.maximum(LARGEST * one.count[full] / one.n, SMALLEST)
            points = ax.scatter(one.confidence[full], one.accuracy[full], s=areas, color=colour, marker=shape)
            points.set(alpha=0.55, edgecolors="white", linewidths=0.5, clip_on=False, gid=f"curve-{index}.points")
            # The legend shows one size for all: that of the points says something else.
            (key,) = ax.plot([], [], linestyle="", marker=shape, color=colour, alpha=0.7, markersize=6)
            key.set(label=on_one_line(name), gid=f"curve-{index}.line")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence of the bin", ylabel="accuracy of the bin")
        ax.set_aspect("equal")
        ax.set_title(title, loc="left")
        show_legend(ax, own=own)
    return ax
