"""A figure of the report: its place on the page, and its files."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from mixup_jax import escapes
from mixup_jax.escapes import visible
from mixup_jax.figures.drawn import Drawn
from mixup_jax.figures.style import for_paper, to_svg, to_svg_and_png

DROPPED = ("metadata", "style", "title")
GLYPH = re.compile(r"DejaVuSans[A-Za-z-]*-[0-9a-f]+")
REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class FigurePlan:
    """A figure that can be drawn from the runs, and its place on the page.

    Attributes:
      kind: what it shows, such as "reliability".
      file_name: without suffix; made of letters, digits and hyphens.
      draw: a picklable function that draws it.
      heading: the heading above it on the page.
      below: small print under the heading.
      filters: the tokens of the filters it belongs to, separated by spaces; see `filters.Filters`.
      unless: the tokens of filters; while one is on, another figure is shown instead.
      parts: the tokens of its parts, by the first part of their ids in the SVG.
      run: the name of its run; empty if it compares several.
      alone: what `draw` is given for a figure that is to stand alone, such as a legend.
    """

    kind: str
    file_name: str
    draw: Callable[..., Drawn]
    heading: str = ""
    below: str = ""
    filters: str = ""
    unless: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    alone: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its place on the page, itself in words, and its files.

    `pdf` is there in the style of papers alone; `csv` has the numbers that are drawn, and is empty if the tables of the
    report have them.  `html` is the figure as an element of the page, `glyphs` are the outlines of its letters by their
    ids, which all figures of a page share.
    """

    plan: FigurePlan
    alt: str
    svg: bytes
    png: bytes
    pdf: bytes
    csv: bytes
    html: Markup
    glyphs: Mapping[str, Markup]

    def files(self) -> dict[str, bytes]:
        """Returns its files by their names."""
        found = {"svg": self.svg, "png": self.png, "pdf": self.pdf, "csv": self.csv}
        return {f"{self.plan.file_name}.{ending}": content for ending, content in found.items() if content}


def finish(plan: FigurePlan, paper: bool = False) -> Figure:
    """Draws a figure and returns it with its files; for a `paper` they are `style.for_paper`."""
    drawn = plan.draw()
    data = csv_bytes(drawn.columns, drawn.rows) if drawn.rows else b""
    if not paper:
        svg, png = to_svg_and_png(drawn.axes)
        return Figure(plan, drawn.alt, svg, png, b"", data, *inline(plan, drawn, svg))
    files = for_paper(plan.draw(**plan.alone).axes)
    shown = inline(plan, drawn, to_svg(drawn.axes))
    return Figure(plan, drawn.alt, files["svg"], files["png"], files["pdf"], data, *shown)


def inline(plan: FigurePlan, drawn: Drawn, svg: bytes) -> tuple[Markup, dict[str, Markup]]:
    """Returns the figure as an element of the page, and the outlines of its letters by their ids.

    An XML parser and writer escape all text in it.  The outlines of the font's letters, most of a small figure, stand
    once on a page.
    """
    root = ET.fromstring(svg)
    prefix = f"{plan.file_name}."
    glyphs = _take_glyphs(root)
    for parent in list(root.iter()):
        for child in list(parent):
            if _plain(child.tag) in DROPPED:
                parent.remove(child)
    for element in list(root.iter()):
        element.tag = _plain(element.tag)
        _label(element, plan, drawn)
        element.attrib = {
            _plain(name): _own(_plain(name), text, prefix, glyphs) for name, text in element.attrib.items()
        }
    referred = {element.get("href", "")[1:] for element in root.iter()}
    for element in root.iter():
        referred |= {found for text in element.attrib.values() for found in REFERENCE.findall(text)}
    for element in root.iter():
        if "id" in element.attrib:
            name = prefix + element.attrib.pop("id")
            if name in referred:
                element.set("id", name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": drawn.alt}
    return Markup(visible(ET.tostring(root, encoding="unicode"))), glyphs


def _take_glyphs(root: ET.Element) -> dict[str, Markup]:
    """Removes the outlines of letters from a figure and returns them by their ids, such as "DejaVuSans-41"."""
    found: dict[str, Markup] = {}
    for parent in list(root.iter()):
        for child in list(parent):
            name = child.get("id", "")
            if _plain(child.tag) == "path" and GLYPH.fullmatch(name):
                parent.remove(child)
                child.tag = "path"
                child.tail = None
                found[name] = Markup(ET.tostring(child, encoding="unicode"))
    return found


def _label(element: ET.Element, plan: FigurePlan, drawn: Drawn) -> None:
    """Adds an element's filters, and the values that it shows."""
    name = element.get("id", "")
    tokens = plan.parts.get(name.partition(".")[0])
    if tokens:
        element.set("data-for", tokens)
    if name in drawn.readings:
        element.set("class", "spot")
        element.set("data-lines", "|".join(plan.parts.get(part, "") for _, part in drawn.readings[name]))
        ET.SubElement(element, "title").text = "\n".join(" ".join(text.split()) for text, _ in drawn.readings[name])


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _own(name: str, text: str, prefix: str, shared: Container[str]) -> str:
    """Returns an attribute in which references to ids have the prefix of this figure, except the shared ids."""
    if name == "href" and text.startswith("#"):  # elsewhere, "#" begins a colour
        return text if text[1:] in shared else f"#{prefix}{text[1:]}"
    return REFERENCE.sub(rf"url(#{prefix}\1)", text)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> bytes:
    """Returns a CSV file; an apostrophe precedes text that a spreadsheet would take for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([escapes.spreadsheet(cell) if isinstance(cell, str) else cell for cell in row])
    return buffer.getvalue().encode()
