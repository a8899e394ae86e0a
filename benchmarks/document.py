"""Where a benchmark writes what it found: between two marks of a document."""

from __future__ import annotations

from pathlib import Path

END = "<!-- end -->\n"


def write_between(path: Path, name: str, text: str) -> None:
    """Puts Markdown between the lines `<!-- NAME -->` and `<!-- end -->` of a document, in place of what is there."""
    begin = f"<!-- {name} -->\n"
    before, _, rest = path.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path} has no {begin.strip()} .. {END.strip()} to write between")
    path.write_text(f"{before}{begin}{text}{END}{after}")
