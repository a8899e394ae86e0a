"""A figure of the report: its place on the page, and its files."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from mixup_jax import escapes
from mixup_jax.escapes import visible
from mixup_jax.figures import Drawn, to_svg_and_png

DROPPED = ("metadata", "style", "title")
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
    """

    kind: str
    file_name: str
    draw: Callable[[], Drawn]
    heading: str = ""
    below: str = ""
    filters: str = ""
    unless: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawn figure.

    Attributes:
      plan: its place on the page.
      alt: the figure in words, with its numbers.
      svg: the figure as SVG.
      png: the figure as PNG.
      csv: the numbers that are drawn, as CSV; empty if the tables of the report have them.
      html: the figure as an element of the page.
    """

    plan: FigurePlan
    alt: str
    svg: bytes
    png: bytes
    csv: bytes
    html: Markup

    def files(self) -> dict[str, bytes]:
        """Returns its files by their names."""
        found = {"svg": self.svg, "png": self.png, "csv": self.csv}
        return {f"{self.plan.file_name}.{ending}": content for ending, content in found.items() if content}


def finish(plan: FigurePlan) -> Figure:
    """Draws a figure and returns it with its files."""
    drawn = plan.draw()
    svg, png = to_svg_and_png(drawn.axes)
    data = csv_bytes(drawn.columns, drawn.rows) if drawn.rows else b""
    return Figure(plan, drawn.alt, svg, png, data, inline(plan, drawn, svg))


def inline(plan: FigurePlan, drawn: Drawn, svg: bytes) -> Markup:
    """Returns the figure as an element of the page.

    An XML parser and writer escape all text in it.
    """
    root = ET.fromstring(svg)
    prefix = f"{plan.file_name}."
    for parent in list(root.iter()):
        for child in list(parent):
            if _plain(child.tag) in DROPPED:
                parent.remove(child)
    for element in list(root.iter()):
        element.tag = _plain(element.tag)
        _label(element, plan, drawn)
        element.attrib = {_plain(name): _own(text, prefix) for name, text in element.attrib.items()}
    referred = {element.get("href", "")[1:] for element in root.iter()}
    for element in root.iter():
        referred |= {found for text in element.attrib.values() for found in REFERENCE.findall(text)}
    for element in root.iter():
        if "id" in element.attrib:
            name = prefix + element.attrib.pop("id")
            if name in referred:
                element.set("id", name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": drawn.alt}
    return Markup(visible(ET.tostring(root, encoding="unicode")))


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


def _own(text: str, prefix: str) -> str:
    """Returns an attribute in which references to ids have the prefix of this figure."""
    return f"#{prefix}{text[1:]}" if text.startswith("#") else REFERENCE.sub(rf"url(#{prefix}\1)", text)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> bytes:
    """Returns a CSV file; an apostrophe precedes text that a spreadsheet would take for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([escapes.spreadsheet(cell) if isinstance(cell, str) else cell for cell in row])
    return buffer.getvalue().encode()
