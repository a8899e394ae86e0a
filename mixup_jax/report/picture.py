"""A finished figure, as files and as a part of the page whose values can be read off."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mixup_jax.escapes import visible
from mixup_jax.figures import to_png, to_svg

DROPPED = ("metadata", "style", "title")
Lines = Sequence[tuple[str, str]]
"""What can be read off: lines of text, each with the tokens of what it is about."""

REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Spot:
    """A column of a figure and what can be read off there.

    Attributes:
      low: where the column begins on the x axis.
      high: where it ends.
      lines: the text.
    """

    low: float
    high: float
    lines: Lines


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes:
      kind: what it shows, such as "reliability".
      file_name: without its ending.
      alt: the figure in words, with its numbers.
      svg: the figure.
      png: the same in dots.
      readings: what can be read off its parts, by their ids.
      tokens: to which choices the parts of the figure belong, by the first part of their ids.
      csv: the numbers that are drawn, as a CSV file; empty where the tables of the report have them.
    """

    kind: str
    file_name: str
    alt: str
    svg: bytes
    png: bytes
    readings: Mapping[str, Lines] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    csv: bytes = b""

    def inline(self) -> Markup:
        """Returns the figure as an element of the page.

        All text in it has passed through an XML parser and writer, which escape it.
        """
        root = ET.fromstring(self.svg)
        prefix = f"{self.file_name}."
        for parent in list(root.iter()):
            for child in list(parent):
                if _plain(child.tag) in DROPPED:
                    parent.remove(child)
        for element in list(root.iter()):
            element.tag = _plain(element.tag)
            self._label(element)
            element.attrib = {_plain(name): _own(text, prefix) for name, text in element.attrib.items()}
        referred = {element.get("href", "")[1:] for element in root.iter()}
        referred |= {found for element in root.iter() for text in element.attrib.values() for found in _urls(text)}
        for element in root.iter():
            if "id" in element.attrib:
                name = prefix + element.attrib.pop("id")
                if name in referred:
                    element.set("id", name)
        root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": self.alt}
        return Markup(visible(ET.tostring(root, encoding="unicode")))

    def _label(self, element: ET.Element) -> None:
        name = element.get("id", "")
        part = name.partition(".")[0]
        if self.tokens.get(part):
            element.set("data-for", self.tokens[part])
        if name in self.readings:
            element.set("class", "spot")
            element.set("data-lines", "|".join(tokens for _, tokens in self.readings[name]))
            ET.SubElement(element, "title").text = "\n".join(" ".join(text.split()) for text, _ in self.readings[name])


def draw(
    kind: str,
    file_name: str,
    axes: Axes | Figure,
    alt: str,
    *,
    spots: Sequence[Spot] = (),
    readings: Mapping[str, Lines] | None = None,
    tokens: Mapping[str, str] | None = None,
    depth: float = 0.0,
    csv: bytes = b"",
) -> Picture:
    """Returns a figure that was drawn as a picture.

    Args:
      kind: what it shows.
      file_name: without its ending; made of letters, digits and hyphens.
      axes: the axes that hold the spots, or a figure without any.
      alt: the figure in words.
      spots: columns where values can be read off.
      readings: as in `Picture`, beside those of the spots.
      tokens: as in `Picture`.
      depth: how far below the axes the spots reach, in parts of the axes' height.
      csv: as in `Picture`.
    """
    if isinstance(axes, Axes):
        _add_spots(axes, spots, depth)
    read = {f"spot-{number}.area": spot.lines for number, spot in enumerate(spots)} | dict(readings or {})
    return Picture(kind, file_name, alt, to_svg(axes), to_png(axes), read, tokens or {}, csv)


def _add_spots(axes: Axes, spots: Sequence[Spot], depth: float) -> None:
    for number, spot in enumerate(spots):
        # Empty, in front of everything: it is there to be pointed at.
        patch = Rectangle(
            (spot.low, -depth),
            spot.high - spot.low,
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
        # Adding an artist may clip it.
        patch.set_clip_on(False)


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _own(text: str, prefix: str) -> str:
    """Returns an attribute whose references lead to the ids of this picture."""
    return f"#{prefix}{text[1:]}" if text.startswith("#") else REFERENCE.sub(rf"url(#{prefix}\1)", text)


def _urls(text: str) -> list[str]:
    return REFERENCE.findall(text)
