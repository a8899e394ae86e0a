"""Winning scores of several methods on one set, over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mixup_jax.errors import InputError
from mixup_jax.figures.histogram import HISTOGRAM_BINS, histogram_shares
from mixup_jax.figures.style import LINES, new_figure, on_one_line, show_legend, style
from mixup_jax.metrics.binning import bin_edges
from mixup_jax.metrics.softmax import Floats


def winning_scores(scores: Mapping[str, Sequence[Floats]], ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draws the histogram of the winning score, the largest softmax probability, of several methods.

    Of several seeds it is the mean of their shares.

    Args:
      scores: by method, the winning scores of each seed, `[N]` in [0, 1].
      ax: where to draw; None makes a figure of its own.
      title: plain text above the figure.

    Returns:
      The axes.

    Raises:
      InputError: a method has no seed, or a seed no example or a score outside [0, 1].
    """
    shares = {name: mean_shares(seeds, name) for name, seeds in scores.items()}
    edges = bin_edges(HISTOGRAM_BINS)
    with style():
        own = ax is None
        if ax is None:
            ax = new_figure(4.3, 3.0 + 0.17 * len(scores)).subplots()
        for index, (name, share) in enumerate(shares.items()):
            colour, dashes = LINES[index % len(LINES)]
            line = ax.stairs(share, edges, color=colour, linestyle=dashes, linewidth=1.4, baseline=None)
            mean = np.mean([np.mean(seed) for seed in scores[name]])
            line.set(label=f"{on_one_line(name)}, mean {mean:.3f}", gid=f"curve-{index}.line")
        ax.set(xlim=(0, 1), xlabel="winning score", ylabel="share of examples")
        ax.set_ylim(bottom=0)
        ax.set_title(title, loc="left")
        show_legend(ax, own=own)
    return ax


def mean_shares(seeds: Sequence[Floats], name: str) -> Floats:
    """Returns the mean over the seeds of `histogram_shares`, `[20]`.

    Raises:
      InputError: there is no seed, or one of them cannot be used.
    """
    if not seeds:
        raise InputError(f"winning scores of {name} hold no seed; expected at least one")
    return np.asarray(np.mean([histogram_shares(seed) for seed in seeds], axis=0))
