"""What the side-by-side timings share: each side in a process of its own, turns, and the page of the results."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from document import write_between

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"

Run = Callable[[int], object]
"""Does the work so many times and returns when it is done."""

# Threads of OpenMP that wait for work by spinning would slow down the other side, whose turn it is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


class Side:
    """One side of a comparison, in a process that has loaded nothing else and idles when it is not its turn."""

    def __init__(self, make: Callable[..., Run], *arguments: Any) -> None:
        """Starts the process and waits until it is ready.

        Args:
          make: a function of a module; called in the process, it prepares the work and warms it up.
          *arguments: of `make`; they travel by pickle.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, arguments))
        self._process.start()
        other.close()
        self._connection.recv()

    def seconds(self, count: int) -> float:
        """Returns how long doing the work `count` times took, by the wall clock."""
        self._connection.send(count)
        return float(self._connection.recv())

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        self._process.join(5)
        self._process.kill()


def _serve(connection: Connection, make: Callable[..., Run], arguments: tuple[Any, ...]) -> None:
    run = make(*arguments)
    connection.send("ready")
    while True:
        try:
            count = connection.recv()
        except EOFError:
            os._exit(0)  # what worker processes' iterators do as an interpreter ends takes seconds and is of no use
        start = time.perf_counter()
        run(count)
        connection.send(time.perf_counter() - start)


def medians(sides: Sequence[Side], *, rounds: int, seconds_a_turn: float, lead: int = 1) -> list[float]:
    """Returns each side's median seconds for doing the work once, over rounds in which each has one turn.

    Args:
      sides: to compare.
      rounds: turns of each side.
      seconds_a_turn: about so long is a turn.
      lead: how often the work is done at the start of a turn before the clock runs.
    """

    def turn(side: Side, count: int) -> float:
        side.seconds(lead)
        return side.seconds(count) / count

    counts = [max(1, round(seconds_a_turn / turn(side, lead))) for side in sides]
    turns = [[turn(side, count) for side, count in zip(sides, counts, strict=True)] for _ in range(rounds)]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


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


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that every script takes: how many rounds, and whether to write the page."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default: %(default)s)")
    made.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    return made


def publish(name: str, lines: Sequence[str], write: bool) -> None:
    """Prints a script's results and, with `write`, puts them into the page of the benchmarks in place of its last."""
    print(*lines, sep="\n")
    if write:
        write_between(PAGE, name, "\n".join(lines) + "\n")
