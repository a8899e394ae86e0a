"""The common style of all figures, and rendering them to SVG and PNG.

Colours are those of Okabe and Ito, which readers with any colour vision can tell apart; every
distinction is also made by hatching, dashes or words.  Figures use Matplotlib's object interface
with fixed settings, so that pyplot's state and a matplotlibrc have no effect.

Parts of a figure have an id in the SVG, such as `curve-0.line`: the part before the dot is the curve,
set or value that it belongs to, numbered in the order of the arguments.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from mixup_jax.escapes import one_line

_log = logging.getLogger(__name__)
MISSING = "Glyph .* missing from"
"""How matplotlib's warning about a letter begins."""
INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
BLUE, SKY, VERMILLION, GREEN, PURPLE, ORANGE = "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00"
LINES: tuple[tuple[str, Any], ...] = (
    (VERMILLION, "-"),
    (BLUE, (0, (5, 2))),
    (GREEN, (0, (1.5, 1.5))),
    (PURPLE, (0, (6, 2, 1, 2))),
    (ORANGE, "-"),
    (INK, (0, (3, 1.5))),
    (SKY, "-"),
    (VERMILLION, (0, (3, 1.5))),
    (BLUE, "-"),
    (GREEN, (0, (6, 2, 1, 2))),
    (PURPLE, "-"),
    (ORANGE, (0, (1.5, 1.5))),
    (INK, "-"),
    (SKY, (0, (5, 2))),
)
"""The colour and dashes of each line of a figure, in order; they repeat after the last."""
MARKERS = ("",) * 7 + ("o", "s", "^", "D", "v", "P", "X")
"""The markers of LINES: a line whose colour was used before has a shape."""

PNG_DPI = 160
COLUMN, BOTH_COLUMNS = 3.25, 6.75
"""Widths in inches of one and of both columns of a page, as in ICML, CVPR and IEEE; NeurIPS's single one is 5.5."""
ONE_COLUMN_UP_TO = 5.0  # inches
LEAST_HEIGHT = 0.85  # of its own height at least remains of a figure, since letters keep their size

FONT = "DejaVu Sans"
"""Comes with matplotlib, so the figures are the same on every machine, except for letters that it lacks."""
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR"),
    *("Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAGothic"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei"),
)
"""Fonts with Chinese, Japanese or Korean letters, on Linux, macOS and Windows: those that are installed draw them."""

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
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
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
def style() -> Iterator[None]:
    """Draws with these settings only during the block, and then restores the caller's settings.

    A letter that no font has, such as a Chinese one in the name of a class, is drawn as a box, and a log line says so
    once; what can be read off a figure has it.
    """
    show = warnings.showwarning

    def note(message: Any, *arguments: Any, **options: Any) -> None:
        if re.match(MISSING, str(message)):
            _say_boxes()
        else:
            show(message, *arguments, **options)

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("always", MISSING)
        warnings.showwarning = note
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE | {"font.family": _families()})
        yield


def _families() -> list[str]:
    """Returns the fonts to look for a letter in, in this order."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [FONT, *(name for name in OTHER_FONTS if name in installed)]


@lru_cache
def _say_boxes() -> None:
    _log.warning("some letters in figures are boxes: no font with them is installed (such as %s)", OTHER_FONTS[0])


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of this size in inches; call it within `style`."""
    return Figure(figsize=(width, height), layout="constrained")


@contextlib.contextmanager
def drawing_in(axes: Axes | None, width: float, height: float) -> Iterator[Axes]:
    """Gives the axes within `style`, or those of a figure of that size in inches if they are None."""
    with style():
        yield new_figure(width, height).subplots() if axes is None else axes


def on_one_line(name: str) -> str:
    """Returns a name without line breaks, and without its middle if it is longer than 44 characters."""
    name = one_line(" ".join(name.split()))
    return name if len(name) <= 44 else f"{name[:21]} … {name[-20:]}"


def show_legend(axes: Axes, *, own: bool, **options: Any) -> None:
    """Adds the legend of the labelled parts: above the axes in a new figure (`own`), else inside the given axes.

    For a part with the id `NAME.line`, its symbol and text in the legend get the ids `NAME.key` and `NAME.name`.
    """
    handles, labels = axes.get_legend_handles_labels()
    where = axes.figure if own else axes
    legend = where.legend(handles, labels, loc="outside upper left" if own else "best", **options)
    for artist, key, text in zip(handles, legend.legend_handles, legend.get_texts(), strict=True):
        part = (artist.get_gid() or "").partition(".")[0]
        if part and key is not None:
            key.set_gid(f"{part}.key")
            text.set_gid(f"{part}.name")


def figure_of(drawing: Axes | Figure) -> Figure:
    """Returns the whole figure that axes belong to."""
    if isinstance(drawing, Figure):
        return drawing
    figure = drawing.figure
    return figure if isinstance(figure, Figure) else figure.figure


def to_svg(drawing: Axes | Figure) -> bytes:
    """Returns a figure as SVG; the same figure gives the same bytes."""
    return _saved(figure_of(drawing), "svg")


def to_png(drawing: Axes | Figure) -> bytes:
    """Returns a figure as PNG with 160 dots per inch."""
    return _saved(figure_of(drawing), "png")


def for_paper(drawing: Axes | Figure) -> dict[str, bytes]:
    """Returns a figure as a paper needs it, "svg", "png" and "pdf", in the width of a column.

    A figure up to `ONE_COLUMN_UP_TO` wide becomes `COLUMN` wide, another one as wide as both columns; letters keep
    their size.  The fonts are in the PDF (as TrueType) and in the SVG (as outlines).
    """
    figure = figure_of(drawing)
    width, height = map(float, figure.get_size_inches())
    wanted = COLUMN if width <= ONE_COLUMN_UP_TO else BOTH_COLUMNS
    figure.set_size_inches(wanted, height * max(wanted / width, LEAST_HEIGHT))
    return {kind: _saved(figure, kind) for kind in ("svg", "png", "pdf")}


def to_svg_and_png(drawing: Axes | Figure) -> tuple[bytes, bytes]:
    """Returns a figure as `to_svg` and `to_png` do, but arranged only once: the PNG has the arrangement of the SVG."""
    figure = figure_of(drawing)
    svg, engine = to_svg(figure), figure.get_layout_engine()
    figure.set_layout_engine("none")
    try:
        return svg, to_png(figure)
    finally:
        figure.set_layout_engine(engine)


def to_pixels(drawing: Axes | Figure) -> npt.NDArray[np.uint8]:
    """Returns a figure as RGB values, uint8 `[height, width, 3]`, with 160 dots per inch."""
    with _drawn_with(FigureCanvasAgg, figure_of(drawing)) as canvas:
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _saved(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    # The canvases are called directly, because `Figure.savefig` draws every figure twice.
    if kind == "svg":
        with _drawn_with(FigureCanvasSVG, figure) as canvas:
            canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    elif kind == "pdf":
        # Imported here, because only papers need it.
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        with _drawn_with(FigureCanvasPdf, figure) as canvas:
            canvas.print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    else:
        with _drawn_with(FigureCanvasAgg, figure) as canvas:
            canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


@contextlib.contextmanager
def _drawn_with(canvas: type[Any], figure: Figure) -> Iterator[Any]:
    """Gives a canvas of this type for the figure on white, and then restores the figure."""
    kept = figure.canvas, figure.dpi, figure.get_facecolor()
    with style():
        try:
            figure.dpi = PNG_DPI
            figure.set_facecolor("white")
            yield canvas(figure)
        finally:
            figure.set_canvas(kept[0])
            figure.dpi = kept[1]
            figure.set_facecolor(kept[2])
