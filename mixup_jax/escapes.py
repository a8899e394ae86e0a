"""Escaping text from files and users for the place where it is shown, and checking parts of file names."""

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

LONGEST_NAME = 200
"""Bytes that a name may have; file systems take 255 for the name of a whole file."""

RESERVED = re.compile(
    r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE | re.DOTALL
)
"""Names of devices on Windows, with any suffix."""


def is_file_name(name: str) -> bool:
    """Returns whether a name may be a part of a file's name on every system: it cannot leave its folder.

    Not allowed, also in compatibility forms such as the full-width solidus: characters that separate folders and drives
    or stand in patterns, control and formatting characters, a dot or space at the end, names of Windows devices, and
    more than 200 bytes.
    """
    folded = unicodedata.normalize("NFKC", name)
    return (
        is_plain(name)
        and not any(mark in '/\\:*?"<>|' for mark in name + folded)
        and not folded.endswith((".", " "))
        and RESERVED.fullmatch(folded.strip()) is None
    )


def is_plain(name: str) -> bool:
    """Returns whether a name is 1 to 200 bytes of characters that can be seen, and spaces."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and len(name.encode()) <= LONGEST_NAME


def visible(text: str, keep: str = "\n\t") -> str:
    """Returns text with its control, formatting and invisible characters escaped, except those in `keep`.

    All foreign text that is shown, on a terminal, on the page or in a figure, goes through here.
    """
    return "".join(
        mark if mark.isprintable() or mark in keep else mark.encode("unicode_escape").decode() for mark in text
    )


def one_line(text: str) -> str:
    """Returns text on one line; control, formatting and invisible characters are escaped."""
    return visible(text, keep="")


def print_line(text: object, file: TextIO | None = None) -> None:
    """Prints text, foreign or with foreign parts, on one line, and at once."""
    print(one_line(str(text)), file=file, flush=True)


class UnreadError(BrokenPipeError):
    """Nobody reads stdout or stderr any more, as after `| head`."""


@contextlib.contextmanager
def _readers_needed() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise UnreadError from error


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Escapes all text that is written to stdout and stderr during the block."""
    with open(os.devnull, "w") as nowhere:  # in place of a stream that was closed before Python began, as by `>&-`
        out, err = (EscapedStream(stream or nowhere) for stream in (sys.stdout, sys.stderr))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield


class EscapedStream:
    """A stream to which text goes as `visible` returns it, also where the stream's encoding lacks a character.

    Attributes:
      unescaped: the stream itself, for the codes that this package sends to a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        """Takes the stream to write to."""
        self.unescaped = stream

    def write(self, text: str) -> int:
        """Writes the text, escaped; returns its length."""
        shown, encoding = visible(text), getattr(self.unescaped, "encoding", None) or "utf-8"
        with _readers_needed():
            self.unescaped.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Writes out what is held back."""
        with _readers_needed():
            self.unescaped.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each of the texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


def is_text(text: str) -> bool:
    """Returns whether a text can be written as UTF-8 and as XML: no half characters, no control characters."""
    return all(
        mark in "\t\n\r" or "\x20" <= mark <= "\ud7ff" or "\ue000" <= mark <= "\ufffd" or mark > "\uffff"
        for mark in text
    )


def markdown(text: str) -> str:
    """Returns text for a cell of a Markdown table, shown as it is: no markup, no new cell, no new line."""
    text = one_line(" ".join(text.split()))
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, escaped)
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", text)


LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
}


def latex(text: str) -> str:
    """Returns text for LaTeX, set as it is: no command, no new cell, no comment, one line."""
    return "".join(LATEX.get(mark, mark) for mark in one_line(" ".join(text.split())))


def spreadsheet(text: str) -> str:
    """Returns text on one line that a spreadsheet does not take for a formula."""
    plain = one_line(" ".join(text.split()))
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain
