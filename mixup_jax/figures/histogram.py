"""How confident a network is in and out of distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mixup_jax.errors import InputError
from mixup_jax.escapes import visible
from mixup_jax.figures.style import INK, LINES, PALE, new_figure, on_one_line, show_legend, style
from mixup_jax.metrics.binning import bin_edges, bin_index
from mixup_jax.metrics.softmax import Floats

HISTOGRAM_BINS = 20


def histogram_shares(confidence: Floats) -> Floats:
    """Returns the share of examples in each of 20 equal right-closed bins of confidence, `[20]`, summing to 1.

    Raises:
      InputError: there is no example, or a confidence is outside [0, 1].
    """
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
    title: str = "",
    in_name: str = "in-distribution",
    scale: Literal["linear", "log"] = "linear",
    top: float | None = None,
    bottom: float | None = None,
) -> Axes:
    """Draws how confident a network is in distribution (filled) and on each out-of-distribution set (lines).

    Args:
      in_distribution: confidences `[N]` in [0, 1].
      ood: confidences `[N_k]` of each out-of-distribution set by its name.
      ax: where to draw; None makes a figure of its own.
      title: plain text above the figure.
      in_name: what the legend calls the in-distribution set.
      scale: of the shares; an empty bin has no place on a logarithmic one and falls below it.
      top: the largest share on the axis, for figures that are to be compared; None fits the data.
      bottom: the smallest share on a logarithmic axis; None is half an example of the largest set.

    Returns:
      The axes.

    Raises:
      InputError: a set holds no example or a confidence outside [0, 1].
    """
    ood = ood or {}
    shares = [histogram_shares(confidence) for confidence in (in_distribution, *ood.values())]
    least = 0.0
    if scale == "log":
        least = bottom or 0.5 / max(len(confidence) for confidence in (in_distribution, *ood.values()))
    edges = bin_edges(HISTOGRAM_BINS)
    with style():
        own = ax is None
        if ax is None:
            ax = new_figure(3.45, 3.3).subplots()
        ax.set_yscale(scale)
        label = f"{on_one_line(in_name)}, mean {np.mean(in_distribution):.3f}"
        ax.stairs(shares[0], edges, fill=True, color=PALE, baseline=least, label=label)
        for index, (name, confidence) in enumerate(ood.items()):
            colour, dashes = LINES[index % len(LINES)]
            line = ax.stairs(shares[index + 1], edges, color=colour, linestyle=dashes, linewidth=1.6, baseline=None)
            line.set(label=f"{on_one_line(name)}, mean {np.mean(confidence):.3f}", gid=f"set-{index}.line")
        ax.set(xlim=(0, 1), xlabel="confidence", ylabel="share of examples")
        ax.set_ylim(bottom=least, top=top)
        if scale == "log":
            # The usual labels are formulas, and formulas are off so that names stay as they are.
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.yaxis.set_minor_locator(NullLocator())
        ax.set_title(visible(title), loc="left", color=INK)
        show_legend(ax, own=own)
    return ax
