"""Figures over the epochs: numbers of several methods, a run's loss, and the density of confidence and accuracy."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Drawn, Lines
from mixup_jax.figures.style import (
    BLUE,
    GREY,
    INK,
    LINES,
    VERMILLION,
    drawing_in,
    new_figure,
    on_one_line,
    show_legend,
    style,
)
from mixup_jax.metrics.binning import bin_confidences
from mixup_jax.metrics.softmax import Bools, Floats

SMOOTH_OVER = 10
"""A curve of loss is smoothed over one of so many parts of training."""

Logged = Sequence[tuple[float, float]]
"""Pairs of an epoch and a number, in order of epochs."""
CELLS = 25
"""The number of cells of a density along confidence, and along accuracy."""
WIDTH = 7.2  # of the figure, inches
FINE = 40  # points in a cell of accuracy, at which a posterior is summed
SHADES = (
    (0.0003, "#e3eef7"),
    (0.001, "#bcd7ea"),
    (0.003, "#86b8db"),
    (0.01, "#4a92c4"),
    (0.03, "#1f6aa5"),
    (0.1, "#08306b"),
)
"""The least share of the examples in a cell of each shade; cells with fewer are white."""

Outcomes = Sequence[tuple[Floats, Bools]]


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


def joint_density(seeds: Outcomes, cells: int = CELLS) -> Floats:
    """Returns the joint distribution of confidence and accuracy, `[cells, cells]`, summing to 1.

    A single example is right or wrong; only several examples have an accuracy.  So the examples are binned
    by confidence, and the share of a bin is spread over the accuracies that its outcomes make likely: entry
    [i, j] is

        n_i / n * P(accuracy in cell j),   accuracy ~ Beta(k_i + 1, n_i - k_i + 1),

    for n_i examples in bin i of which k_i are right: the posterior of a uniform prior.  Many examples make
    a narrow column, few examples a wide one.  For several seeds the result is the mean over the seeds.

    Args:
      seeds: for each seed, the confidence of every example `[N]` in [0, 1] and whether it is right `[N]`.
      cells: the number of equally wide cells of confidence (right-closed), and of accuracy.
    """
    if not seeds or not all(len(confidence) for confidence, _ in seeds):
        raise InputError("outcomes hold no example; expected at least one seed with at least one example")
    points = (np.arange(cells * FINE) + 0.5) / (cells * FINE)
    total = np.zeros((cells, cells))
    for confidence, correct in seeds:
        bins = bin_confidences(confidence, correct, cells)
        right, wrong = bins.correct_sum[:, None], (bins.count - bins.correct_sum)[:, None]
        log_density = right * np.log(points) + wrong * np.log1p(-points)
        density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
        density /= density.sum(axis=1, keepdims=True)
        total += (bins.count / bins.n)[:, None] * density.reshape(cells, cells, FINE).sum(axis=2)
    return np.asarray(total / len(seeds))


def density_over_epochs(by_epoch: Mapping[int, Outcomes]) -> Figure:
    """Draws `joint_density` at several epochs side by side, each with its mean confidence and accuracy as a cross.

    Below the diagonal the network is over-confident, above it under-confident.  The cross of panel i has the id
    `panel-i.mean`.

    Args:
      by_epoch: the first argument of `joint_density` by epoch, drawn in order of epochs.
    """
    if not by_epoch:
        raise InputError("by_epoch is empty; expected the outcomes of at least one epoch")
    epochs = sorted(by_epoch)
    densities = [joint_density(by_epoch[epoch]) for epoch in epochs]
    with style():
        panels = max(len(epochs), 4)  # with fewer epochs, the panels do not become larger
        figure = new_figure(WIDTH, WIDTH / panels + 0.95)
        row = figure.subplots(1, panels, sharex=True, sharey=True, squeeze=False)[0]
        for axes in row[len(epochs) :]:
            axes.set_visible(False)
        for index, (epoch, density) in enumerate(zip(epochs, densities, strict=True)):
            confidence, accuracy = mean_point(by_epoch[epoch])
            _draw_density(row[index], density)
            row[index].plot(
                confidence, accuracy, "P", color=VERMILLION, markeredgecolor="white", markersize=7, markeredgewidth=0.8
            )
            row[index].lines[-1].set(gid=f"panel-{index}.mean", zorder=4, clip_on=False)
            moment = "before training" if epoch == 0 else f"epoch {epoch}"
            means = f"conf. {confidence:.3f}, acc. {accuracy:.3f}"
            row[index].set_title(f"{moment}\n{means}", fontsize=7, color=INK, linespacing=1.4)
            row[index].set_xlabel("confidence")
        row[0].set_ylabel("accuracy")
        shades = [Patch(facecolor=colour, label=f"{100 * least:g} %") for least, colour in SHADES]
        figure.legend(
            handles=shades, loc="outside lower center", ncols=len(shades), title="share of the examples, at least"
        )
    return figure


def mean_point(seeds: Outcomes) -> tuple[float, float]:
    """Returns mean confidence and accuracy, each the mean over the seeds."""
    points = [(float(np.mean(confidence)), float(np.mean(correct))) for confidence, correct in seeds]
    confidence, accuracy = np.mean(points, axis=0)
    return float(confidence), float(accuracy)


def _draw_density(axes: Axes, density: Floats) -> None:
    edges = np.linspace(0, 1, len(density) + 1)
    thresholds = [least for least, _ in SHADES]
    shade = np.searchsorted(thresholds, density, side="right") - 1
    for level, (_, colour) in enumerate(SHADES):
        cells = np.argwhere(shade == level)
        if len(cells):
            # One path for all cells of a shade: a path for each cell would make the page many times larger.
            squares = [_square(edges[i], edges[i + 1], edges[j], edges[j + 1]) for i, j in cells]
            axes.add_patch(PathPatch(Path.make_compound_path(*squares), facecolor=colour, linewidth=0))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.set_xticklabels(["0", "0.5", "1"])
    axes.set_yticklabels(["0", "0.5", "1"])


def _square(left: float, right: float, bottom: float, top: float) -> Path:
    return Path([(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)], closed=True)


def density_rows(by_epoch: Mapping[int, Outcomes]) -> list[tuple[float, ...]]:
    """Returns the cells that `density_over_epochs` draws: epoch, ends of the cell on both axes, share.

    Cells with a share below a millionth are left out.
    """
    edges = np.linspace(0, 1, CELLS + 1).round(6).tolist()
    rows: list[tuple[float, ...]] = []
    for epoch in sorted(by_epoch):
        density = joint_density(by_epoch[epoch])
        for i, j in itertools.product(range(CELLS), repeat=2):
            if density[i, j] >= 1e-6:
                rows.append((epoch, edges[i], edges[i + 1], edges[j], edges[j + 1], float(density[i, j])))
    return rows


def density_figure(by_epoch: Mapping[int, Outcomes], name: str) -> Drawn:
    """Returns the figure of `density_over_epochs`, whose text calls the method `name`."""
    readings: dict[str, Lines] = {}
    words = []
    for index, (epoch, seeds) in enumerate(by_epoch.items()):
        confidence, accuracy = mean_point(seeds)
        text = f"mean confidence {confidence:.4f}, accuracy {accuracy:.4f}"
        readings[f"panel-{index}.mean"] = [(f"epoch {epoch}", ""), (text, "")]
        words.append(f"epoch {epoch}: {text}")
    examples = f"{len(next(iter(by_epoch.values()))[0][0]):,} validation examples"
    alt = f"Joint density of confidence and accuracy of {name} on {examples}. {'; '.join(words)}."
    columns = ("epoch", "confidence_low", "confidence_high", "accuracy_low", "accuracy_high", "share")
    return Drawn(density_over_epochs(by_epoch), alt, readings, columns, density_rows(by_epoch))
