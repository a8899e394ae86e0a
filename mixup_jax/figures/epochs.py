"""Numbers over the epochs of training: of several methods, and loss and accuracy of one run."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Drawn
from mixup_jax.figures.style import BLUE, LINES, VERMILLION, drawing_in, new_figure, on_one_line, show_legend, style
from mixup_jax.metrics.softmax import Floats

SMOOTH_OVER = 10
"""A curve of loss is smoothed over one of so many parts of training."""

Logged = Sequence[tuple[float, float]]
"""Pairs of an epoch and a number, in order of epochs."""


def smoothed(values: Floats) -> Floats:
    """Returns running means over a tenth of the values, on both sides of each alike.

    At the ends, where there are fewer values on one side, as many are taken on the other.
    """
    reach = len(values) // (2 * SMOOTH_OVER)
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    sides = np.minimum(reach, np.minimum(place, len(values) - 1 - place))
    return np.asarray((total[place + sides + 1] - total[place - sides]) / (2 * sides + 1))


def over_epochs(
    logged: Mapping[str, Sequence[Logged]],
    ax: Axes | None = None,
    *,
    label: str = "",
    from_zero: bool = True,
    smooth: bool = False,
) -> Axes:
    """Draws a number over the epochs of training.

    For several seeds it draws the mean, over a band from the lowest to the highest value, at the epochs that all
    seeds have.

    Args:
      logged: by name, for each seed the (epoch, number) pairs in order of epochs.
      ax: where to draw; None makes a new figure.
      label: of the number, at its axis.
      from_zero: whether the axis of the number begins at 0.
      smooth: draw `smoothed` means, over the means as they were logged, which are faint.
    """
    curves = {name: at_common_epochs(seeds, name) for name, seeds in logged.items()}
    with drawing_in(ax, 3.45, 2.6 + 0.17 * len(logged)) as axes:
        for index, (name, (epochs, values)) in enumerate(curves.items()):
            colour, dashes = LINES[index % len(LINES)]
            if len(values) > 1:
                low, high = values.min(axis=0), values.max(axis=0)
                axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0, gid=f"curve-{index}.band")
            mean = values.mean(axis=0)
            if smooth:
                axes.plot(epochs, mean, color=colour, alpha=0.3, linewidth=0.8, gid=f"curve-{index}.logged")
            drawn = smoothed(mean) if smooth else mean
            (line,) = axes.plot(epochs, drawn, color=colour, linestyle=dashes, linewidth=1.4)
            line.set(gid=f"curve-{index}.line", label=on_one_line(name))
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
        if from_zero:
            axes.set_ylim(bottom=0)
        show_legend(axes, own=ax is None)
    return axes


def at_common_epochs(seeds: Sequence[Logged], name: str) -> tuple[Floats, Floats]:
    """Returns the epochs that all seeds have, `[E]`, and their numbers there, `[seeds, E]`."""
    found = [dict(seed) for seed in seeds]
    shared = sorted(set.intersection(*map(set, found))) if found else []
    if not shared:
        raise InputError(f"logged of {name} have no epoch in common; expected at least one seed with one epoch")
    return np.array(shared), np.array([[seed[epoch] for epoch in shared] for seed in found])


def over_epochs_figure(
    logged: Mapping[str, Mapping[str, Logged]], key: str, label: str, *, from_zero: bool = True, smooth: bool = False
) -> Drawn:
    """Returns the figure of `over_epochs` for a number by method and seed.

    `key` is the name of its column in the data, and `label` its name in the figure.
    """
    values = {name: list(by_seed.values()) for name, by_seed in logged.items()}
    rows: list[tuple[str | float, ...]] = []
    words = []
    for name, by_seed in logged.items():
        rows += [(name, seed, epoch, value) for seed, pairs in by_seed.items() for epoch, value in pairs]
        epochs, numbers = at_common_epochs(values[name], name)
        mean = numbers.mean(axis=0)
        words.append(f"{name}: {mean[0]:.4f} at epoch {epochs[0]:g}, {mean[-1]:.4f} at epoch {epochs[-1]:g}")
    alt = f"{label} over the epochs, mean of the seeds. {'; '.join(words)}."
    axes = over_epochs(values, label=label, from_zero=from_zero, smooth=smooth)
    return Drawn(axes, alt, columns=("group", "seed", "epoch", key), rows=rows)


def training_curve(loss: Logged, accuracy: Logged) -> Figure:
    """Draws training loss, `smoothed` over its faint curve, and validation accuracy, one above the other.

    Both are (epoch, number) pairs in order of epochs.
    """
    with style():
        figure = new_figure(3.45, 2.7)
        top, bottom = figure.subplots(2, 1, sharex=True)
        for axes, points, colour in ((top, loss, VERMILLION), (bottom, accuracy, BLUE)):
            epochs, values = np.transpose(points)
            if axes is top:
                axes.plot(epochs, values, color=colour, alpha=0.3, linewidth=0.8)
                values = smoothed(values)
            axes.plot(epochs, values, color=colour, linewidth=1.4, marker="o" if len(points) < 12 else "", markersize=3)
        top.set_ylabel("training loss")
        bottom.set(xlabel="epoch", ylabel="validation acc.")
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        figure.align_ylabels()
    return figure


def training_figure(loss: Logged, accuracy: Logged, name: str) -> Drawn:
    """Returns the figure of `training_curve`, whose text calls the run `name`."""
    alt = (
        f"Training of {name}: training loss goes from {loss[0][1]:.4f} (epoch {loss[0][0]:g}) to {loss[-1][1]:.4f} "
        f"(epoch {loss[-1][0]:g}), validation accuracy from {accuracy[0][1]:.4f} (epoch {accuracy[0][0]:g}) to "
        f"{accuracy[-1][1]:.4f} (epoch {accuracy[-1][0]:g})."
    )
    logged = {"train_loss": loss, "validation_accuracy": accuracy}
    rows = [(key, *pair) for key, pairs in logged.items() for pair in pairs]
    return Drawn(training_curve(loss, accuracy), alt, columns=("number", "epoch", "value"), rows=rows)
