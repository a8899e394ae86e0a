"""A figure with a description for readers who cannot see it, and with the values that it shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

DIGITS = 4
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"

Lines = Sequence[tuple[str, str]]
"""Lines of text, each with the part of the figure that it describes, such as "curve-0"; "" is the whole figure."""
Rows = Sequence[Sequence[str | float | None]]


@dataclass(frozen=True)
class Drawn:
    """The result of a figure function.

    Attributes:
      axes: the axes, or the figure if it has several axes.
      alt: the figure in words, with its numbers.
      readings: the values that its parts show, by the ids of the parts in the SVG, such as "curve-0.mean".
      columns: names of the columns of `rows`.
      rows: the numbers that are drawn; empty where the tables of the report have them.
    """

    axes: Axes | Figure
    alt: str
    readings: Mapping[str, Lines] = field(default_factory=dict)
    columns: Sequence[str] = ()
    rows: Rows = ()


@dataclass(frozen=True)
class Column:
    """A part of the x axis, from `low` to `high`, and the values that the figure shows there."""

    low: float
    high: float
    lines: Lines


def add_columns(axes: Axes, columns: Sequence[Column], depth: float = 0.0) -> dict[str, Lines]:
    """Adds invisible columns that a reader can point at, and returns their values by their ids.

    Args:
      axes: where they are added.
      columns: from left to right.
      depth: how far below the axes they reach, in parts of the axes' height.
    """
    for number, column in enumerate(columns):
        patch = Rectangle(
            (column.low, -depth),
            column.high - column.low,
            1 + depth,
            transform=axes.get_xaxis_transform(),
            facecolor="none",
            edgecolor="none",
            clip_on=False,
            zorder=10,
            gid=f"spot-{number}.area",
        )
        patch.set_in_layout(False)
        axes.add_artist(patch)
        # Adding an artist may turn on clipping.
        patch.set_clip_on(False)
    return {f"spot-{number}.area": column.lines for number, column in enumerate(columns)}


def number(value: float | None, *, signed: bool = False) -> str:
    """Returns a number with four decimals and a real minus sign, or a dash for None."""
    if value is None:
        return NONE
    # Rounding may give -0.0; adding 0.0 makes it 0.0.
    rounded = round(value, DIGITS) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{DIGITS}f}".replace("-", MINUS)


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns mean and sample standard deviation (n - 1 in the denominator; None for one value)."""
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else None


def spread(values: Sequence[float], *, signed: bool = False) -> str:
    """Returns "mean ± standard deviation" of the values of several seeds, or the value of a single seed."""
    mean, std = mean_and_std(values)
    text = number(mean, signed=signed)
    return text if std is None else f"{text} ± {number(std)}"


def count_seeds(count: int) -> str:
    """Returns the number of seeds in words, such as "3 seeds"."""
    return "1 seed" if count == 1 else f"{count} seeds"
