"""The joint density of confidence and accuracy, epoch by epoch."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from mixup_jax.errors import InputError
from mixup_jax.figures.drawn import Drawn, Lines
from mixup_jax.figures.style import GREY, INK, VERMILLION, new_figure, style
from mixup_jax.metrics.binning import bin_confidences
from mixup_jax.metrics.softmax import Bools, Floats

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
