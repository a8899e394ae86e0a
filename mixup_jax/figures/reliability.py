"""The reliability diagram."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mixup_jax.escapes import visible
from mixup_jax.figures.style import BLUE, GREY, INK, SKY, VERMILLION, new_figure, style
from mixup_jax.metrics.binning import Bins
from mixup_jax.metrics.calibration import ece, oe
from mixup_jax.metrics.softmax import Floats

OVER, UNDER = "/" * 4, "\\" * 4


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
    where confidence is the higher (over-confident), blue where it is the lower.  The dark band is
    Wilson's 95 % interval of the accuracy.  The ECE and OE printed are those of these `bins`.

    Args:
      bins: M calibration bins; empty ones stay empty.
      ax: where to draw; None makes a figure of its own, with the numbers of examples below.
      counts_ax: where to draw the numbers of examples; None leaves them out where `ax` is given.
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
            # Over the whole width: the axes alone are too narrow for the numbers.
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
    # The usual labels are formulas, and formulas are off so that a name with dollar signs stays as it is.
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
