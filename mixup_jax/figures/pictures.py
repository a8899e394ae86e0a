"""Single examples as pictures, with what a network says of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mixup_jax.errors import InputError
from mixup_jax.escapes import visible
from mixup_jax.figures.drawn import Drawn, number
from mixup_jax.figures.style import new_figure, on_one_line, style

COLUMNS = 5
LONGEST = 16
"""Characters of a class name under a picture."""


class Shown(NamedTuple):
    """An example: its pixels uint8 `[H, W, C]`, its row in the record, and what was said of it.

    `label` is empty for an example without one.
    """

    pixels: npt.NDArray[np.uint8]
    row: int
    predicted: str
    confidence: float
    label: str = ""


def examples(shown: Sequence[Shown]) -> Figure:
    """Draws examples, five in a line; below each stand the predicted class, the confidence and the label."""
    if not shown:
        raise InputError("no example to show; expected at least one")
    lines = -(-len(shown) // COLUMNS)
    with style():
        figure = new_figure(6.9, 1.8 * lines)
        for place, axes in enumerate(figure.subplots(lines, COLUMNS, squeeze=False).flat):
            if place >= len(shown):
                axes.set_axis_off()
                continue
            one = shown[place]
            pixels = one.pixels[..., 0] if one.pixels.shape[-1] == 1 else one.pixels
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
            axes.set(xticks=[], yticks=[], gid=f"spot-{place}.area")
            axes.spines[:].set_visible(False)
            label = f"\n(is {_short(one.label)})" if one.label else ""
            axes.set_xlabel(f"{_short(one.predicted)} {one.confidence:.3f}{label}", fontsize=8)
    return figure


def _short(name: str) -> str:
    name = visible(on_one_line(name))
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def examples_figure(shown: Sequence[Shown], name: str, set_name: str) -> Drawn:
    """Returns the figure of `examples` of a data set, whose text calls the network `name`."""
    said = [
        f"{one.predicted}, confidence {number(one.confidence)}" + (f", is {one.label}" if one.label else "")
        for one in shown
    ]
    return Drawn(
        examples(shown),
        f"The examples of {set_name} of which {name} is most confident without being right: {'; '.join(said)}.",
        {f"spot-{place}.area": [(text, "")] for place, text in enumerate(said)},
        ("set", "row", "predicted", "confidence", "label"),
        [(set_name, one.row, one.predicted, one.confidence, one.label) for one in shown],
    )
