"""The figures: each is a pure function of bins, confidences or logged numbers.

Colours are those of Okabe and Ito, which readers with any colour vision tell apart; every
distinction is also made by hatching, dashes or words.  Matplotlib's object interface is used
throughout, under settings of our own, so that neither pyplot's state nor a matplotlibrc matters.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mixup_jax.metrics.calibration import Bins, bin_edges, bin_index, ece, oe
from mixup_jax.metrics.scores import Floats

INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
BLUE, SKY, VERMILLION, GREEN, PURPLE, ORANGE = "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
OOD_LINES = (
    (VERMILLION, "-"),
    (BLUE, (0, (5, 2))),
    (GREEN, (0, (1.5, 1.5))),
    (PURPLE, (0, (6, 2, 1, 2))),
    (ORANGE, "-"),
)
OVER, UNDER = "/" * 4, "\\" * 4
HISTOGRAM_BINS = 20
PNG_DPI = 160

STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "font.size": 9,
    "hatch.linewidth": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "mixup_jax",
    "text.parse_math": False,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


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


def reliability_diagram(bins: Bins, *, title: str = "") -> Figure:
    """Draws accuracy against confidence, bin by bin, above the number of examples in each bin.

    Solid bars are accuracy.  The hatched part is the gap to the bin's mean confidence: vermillion
    where confidence is the higher (over-confident), sky blue where it is the lower.  The dark band
    is Wilson's 95 % interval of the accuracy.  The ECE and OE printed are those of these `bins`.

    Args:
      bins: M calibration bins; empty ones stay empty.
      title: plain text above the diagram.
    """
    with _style():
        figure = Figure(figsize=(3.45, 4.7), layout="constrained")
        top, bottom = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        _draw_accuracy(top, bins)
        _draw_counts(bottom, bins)
        numbers = f"ECE {ece(bins):.4f}, OE {oe(bins):.4f} ({bins.n_bins} bins, n = {bins.n:,})"
        text = f"{title}\n{numbers}" if title else numbers
        # Over the whole width: the axes alone are too narrow for the numbers.
        figure.suptitle(text, x=0.02, ha="left", color=INK, fontsize=9, linespacing=1.5)
        figure.legend(handles=_reliability_legend(), loc="outside lower center", ncols=2, handlelength=1.6)
    return figure


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


def _reliability_legend() -> list[Patch]:
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
    axes.set(yscale="log", ylim=(0.7, max(10.0, 2.0 * float(bins.count.max()))), xlabel="confidence", ylabel="examples")
    # The usual labels are formulas, and formulas are off so that a name with dollar signs stays as it is.
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())


def histogram_shares(confidence: Floats) -> Floats:
    """Returns the share of examples in each of 20 equal right-closed bins of confidence, `[20]`, summing to 1."""
    counts = np.bincount(bin_index(confidence, bin_edges(HISTOGRAM_BINS)), minlength=HISTOGRAM_BINS)
    return np.asarray(counts / len(confidence))


def confidence_histograms(
    in_distribution: Floats,
    ood: Mapping[str, Floats],
    *,
    title: str = "",
    in_name: str = "in-distribution",
    top: float | None = None,
) -> Figure:
    """Draws how confident a network is in distribution (filled) and on each out-of-distribution set (lines).

    Args:
      in_distribution: confidences `[N]` in [0, 1].
      ood: confidences `[N_k]` of each out-of-distribution set by its name.
      title: plain text above the figure.
      in_name: what the legend calls the in-distribution set.
      top: the largest share on the axis, for figures that are to be compared; None fits the data.
    """
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    with _style():
        figure = Figure(figsize=(3.45, 3.3), layout="constrained")
        axes = figure.subplots()
        label = f"{in_name}, mean {np.mean(in_distribution):.3f}"
        axes.stairs(histogram_shares(in_distribution), edges, fill=True, color=PALE, label=label)
        for index, (name, confidence) in enumerate(ood.items()):
            colour, dashes = OOD_LINES[index % len(OOD_LINES)]
            label = f"{name}, mean {np.mean(confidence):.3f}"
            axes.stairs(
                histogram_shares(confidence),
                edges,
                color=colour,
                linestyle=dashes,
                linewidth=1.6,
                label=label,
                baseline=None,
            )
        axes.set(xlim=(0, 1), xlabel="confidence", ylabel="share of examples")
        axes.set_ylim(bottom=0, top=top)
        axes.set_title(title, loc="left", color=INK)
        figure.legend(loc="outside upper left")
    return figure


def training_curve(loss: Sequence[tuple[float, float]], accuracy: Sequence[tuple[float, float]]) -> Figure:
    """Draws training loss and validation accuracy over the epochs, one above the other.

    Args:
      loss: (epoch, training loss) in order of epochs.
      accuracy: (epoch, validation accuracy in [0, 1]), likewise.
    """
    with _style():
        figure = Figure(figsize=(3.45, 2.7), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes, points, colour in ((top, loss, VERMILLION), (bottom, accuracy, BLUE)):
            axes.plot(
                *np.transpose(points), color=colour, linewidth=1.4, marker="o" if len(points) < 12 else "", markersize=3
            )
        top.set_ylabel("training loss")
        bottom.set(xlabel="epoch", ylabel="validation acc.")
        figure.align_ylabels()
    return figure


def to_svg(figure: Figure) -> bytes:
    """Returns a figure as SVG; the same figure gives the same bytes."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


def to_png(figure: Figure) -> bytes:
    """Returns a figure as PNG of 160 dots an inch."""
    return _saved(figure, "png", {"Software": None})


def _saved(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=metadata, facecolor="white")
    return buffer.getvalue()
