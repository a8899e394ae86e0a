"""Results of benchmarks in Markdown: tables, the machine, and writing them between two marks of a document."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

END = "<!-- end -->\n"


def write_between(path: Path, name: str, text: str) -> None:
    """Puts Markdown between the lines `<!-- NAME -->` and `<!-- end -->` of a document, replacing the text there."""
    begin = f"<!-- {name} -->\n"
    before, _, rest = path.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path} has no {begin.strip()} .. {END.strip()} to write between")
    path.write_text(f"{before}{begin}{text}{END}{after}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def machine(*packages: str) -> str:
    """Returns one line about when and where this runs, with the versions of the packages."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in facts.splitlines() if line.startswith("model name")]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages if installed(name)]
    return (
        f"{datetime.date.today().isoformat()}; {platform.system()}, {(names or [platform.processor()])[0]}, "
        f"{len(os.sched_getaffinity(0))} cores; load average {os.getloadavg()[0]:.1f} at the end of the run; "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def installed(package: str) -> bool:
    """Returns whether a package is installed, without loading it."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
