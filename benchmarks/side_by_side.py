"""What the side-by-side timings share: sides in separate processes that take turns, and the page of the results."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from document import machine, table, write_between

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"

Run = Callable[[int], object]
"""Does the work a number of times and returns when it is done."""

# OpenMP threads that spin while they wait would slow down the other side during its turn.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


class Side:
    """One side of a comparison, in a process of its own that is idle when it is not its turn."""

    def __init__(self, make: Callable[..., Run], *arguments: Any) -> None:
        """Starts the process and waits until `make`, a function of a module, has prepared the work and warmed it up."""
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
            os._exit(0)  # a normal exit would wait for seconds for iterators with worker processes
        start = time.perf_counter()
        run(count)
        connection.send(time.perf_counter() - start)


def medians(sides: Sequence[Side], *, rounds: int, seconds_a_turn: float, lead: int = 1) -> list[float]:
    """Returns each side's median seconds for doing the work once, over rounds in which each side has one turn.

    A turn takes about `seconds_a_turn`, after doing the work `lead` times without a clock.
    """

    def turn(side: Side, count: int) -> float:
        side.seconds(lead)
        return side.seconds(count) / count

    counts = [max(1, round(seconds_a_turn / turn(side, lead))) for side in sides]
    turns = [[turn(side, count) for side, count in zip(sides, counts, strict=True)] for _ in range(rounds)]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def parser(description: str | None, rounds: int, *, only: str = "") -> argparse.ArgumentParser:
    """Returns a parser of --rounds and --write, and of --only if `only` names what the labels are of."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="turns of each side (default: %(default)s)")
    made.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    if only:
        made.add_argument("--only", default="", help=f"only {only} whose label contains this")
    return made


def compare(
    name: str,
    header: Sequence[str],
    cases: Sequence[Any],
    rows_of: Callable[[Any], list[list[str]]],
    arguments: argparse.Namespace,
    packages: Sequence[str],
) -> None:
    """Publishes a table with the rows of every case that `arguments.only` selects, and prints them as they are made."""
    rows: list[list[str]] = []
    for case in cases:
        if arguments.only in case.label:
            rows += (made := rows_of(case))
            print(*table(header, made)[2:], sep="\n", flush=True)
    publish(name, [*table(header, rows), "", machine(*packages)], arguments.write)


def publish(name: str, lines: Sequence[str], write: bool) -> None:
    """Prints a script's results and, with `write`, replaces its last results in docs/benchmarks.md."""
    print(*lines, sep="\n")
    if write:
        write_between(PAGE, name, "\n".join(lines) + "\n")
