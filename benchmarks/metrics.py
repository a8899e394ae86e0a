"""Our metrics against torchmetrics, netcal, relplot and scikit-learn, on the same numbers, in one run.

    pip install torch torchmetrics netcal relplot scikit-learn
    python benchmarks/metrics.py [--sizes=100000x10,1000000x10,50000x1000] [--only=ECE] [--large=FOLDER] [--write]

docs/benchmarks-metrics.md, which it writes, says how everything is measured.  A peer that is not installed is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from document import installed, machine, write_between
from metric_peers import COMPARISONS, LOGITS, SIDES, WIDE, Inputs
from metric_sizes import alone, large, timed

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks-metrics.md"
PEERS = ("torchmetrics", "netcal", "relplot", "scikit-learn")
SIZES = "100000x10,1000000x10,50000x1000"
LARGE = 10_000_000  # the least number of logits for which memory is measured; below, the noise is larger
HEADER = "| metric | N x K | peer | ours ms | peer ms | ratio | difference | ours MiB | peer MiB |"


@dataclass(frozen=True)
class Line:
    """One comparison."""

    name: str
    n: int
    k: int
    peer: str
    own_ms: float
    peer_ms: float
    difference: float
    own_mib: float | None
    peer_mib: float | None

    @property
    def ratio(self) -> float:
        """How many times faster than the peer we are."""
        return self.peer_ms / self.own_ms

    def __str__(self) -> str:
        sizes = ["-" if size is None else f"{size:.0f}" for size in (self.own_mib, self.peer_mib)]
        return (
            f"| {self.name} | {self.n:,} x {self.k} | {self.peer} | {self.own_ms:.2f} | {self.peer_ms:.2f} | "
            f"{self.ratio:.1f} | {self.difference:.0e} | {sizes[0]} | {sizes[1]} |"
        )


@dataclass(frozen=True)
class Aim:
    """The least ratio that is aimed at, for some metrics and peers."""

    words: str
    names: tuple[str, ...]
    peers: tuple[str, ...]
    ratio: float

    def found(self, lines: list[Line]) -> str:
        """Returns a line that says whether the aim was met, and where it was missed."""
        judged = [line for line in lines if line.name in self.names and line.peer in self.peers]
        if not judged:
            return f"- {self.words}: not measured"
        short = [line for line in judged if line.ratio < self.ratio]
        least = min(line.ratio for line in judged)
        where = "; ".join(f"{line.name}, {line.n:,} x {line.k}, {line.peer}: {line.ratio:.3f}" for line in short)
        return f"- {self.words}: {'missed: ' + where if short else f'met, at least {least:.1f}'}"


AIMS = (
    Aim("ECE at least 10 times as fast as torchmetrics", ("ECE-15", LOGITS), ("torchmetrics",), 10),
    Aim("ECE at least 10 times as fast as netcal", ("ECE-15", LOGITS), ("netcal",), 10),
    Aim("smooth ECE at least 10 times as fast as relplot", ("smooth ECE",), ("relplot",), 10),
    Aim("AUROC no slower than scikit-learn", ("AUROC",), ("scikit-learn",), 1),
)


def memory_found(lines: list[Line]) -> str:
    measured = [line for line in lines if line.own_mib is not None and line.peer_mib is not None]
    more = [line for line in measured if line.own_mib > line.peer_mib]
    where = "; ".join(f"{line.name}, {line.n:,} x {line.k}, {line.peer}" for line in more)
    if not measured:
        return "- Peak memory no higher than any peer's: not measured"
    return f"- Peak memory no higher than any peer's: {'missed: ' + where if more else 'met'}"


def peak_of(side: str, name: str, file: str) -> float:
    """Returns by how many MiB one call raises the peak resident size of this new process."""
    x = Inputs.__new__(Inputs)
    with np.load(file) as arrays:  # read, because making them would need more memory than most metrics do
        x.__dict__.update({key: arrays[key] for key in arrays.files})
    x.n, x.k = x.logits.shape
    SIDES[side](name, Inputs(1000, x.k))  # so that imports and the set-up of the first call are not measured
    before = peak_kib()
    SIDES[side](name, x)
    return (peak_kib() - before) / 1024


def peak_kib() -> int:
    """Returns the peak resident size, not from getrusage, whose value a process inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def memory(side: str, name: str, file: str) -> float | None:
    command = [sys.executable, __file__, "--peak", json.dumps([side, name, file])]
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    return float(answer.stdout) if answer.returncode == 0 else None


def compare(name: str, peer: str, x: Inputs, rounds: int, peaks: dict[str, float | None]) -> Line:
    times: dict[str, list[float]] = {"ours": [], peer: []}
    results = {side: SIDES[side](name, x) for side in times}
    for number in range(rounds):
        for side in list(times)[:: 1 if number % 2 else -1]:
            times[side].append(timed(lambda side=side: SIDES[side](name, x)))
    own, other = (statistics.median(milliseconds) for milliseconds in times.values())
    difference = abs(results["ours"] - results[peer])
    return Line(name, x.n, x.k, peer, own, other, difference, peaks.get("ours"), peaks.get(peer))


def comparisons(sizes: str, rounds: int, missing: list[str], with_memory: bool, only: str) -> Iterator[Line]:
    for size in sizes.split(","):
        x = Inputs(*(int(part) for part in size.split("x")))
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "inputs.npz")
            np.savez(file, **{key: value for key, value in vars(x).items() if isinstance(value, np.ndarray)})
            for name in (name for name in (COMPARISONS if x.k <= 10 else WIDE) if only in name):
                peers = [peer for peer in COMPARISONS[name] if peer.partition(",")[0] not in missing]
                measured = ("ours", *peers) if with_memory and x.logits.size >= LARGE and peers else ()
                peaks = {side: memory(side, name, file) for side in measured}
                for peer in peers:
                    yield compare(name, peer, x, rounds, peaks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help="NxK, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="WORDS", help="only comparisons whose names contain this")
    parser.add_argument("--no-memory", action="store_true", help="do not start a process for each side's peak")
    parser.add_argument(
        "--large", type=Path, metavar="FOLDER", help="also 1,000,000 x 1,000, with 4.5 GB of files there"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", nargs="?", const=DOCUMENT, help="also write the page")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak_of(*json.loads(arguments.peak)))
        return

    load_before = os.getloadavg()[0]
    missing = [peer for peer in PEERS if not installed(peer)]
    for peer in missing:
        print(f"{peer} is not installed and left out")
    table = [HEADER, "|" + " --- |" * HEADER.count(" |")]
    print(*table, sep="\n", flush=True)
    lines = list(
        printed(comparisons(arguments.sizes, arguments.rounds, missing, not arguments.no_memory, arguments.only))
    )
    facts = [
        f"- {machine('numpy', 'numba', 'torch', *PEERS)}",
        f"- Load average {load_before:.1f} before the comparisons: as far as this exceeds the cores, other work "
        "competed, and single lines may be off by a factor of 2",
    ]
    print(*facts, sep="\n")
    found = list(printed(iter([*(aim.found(lines) for aim in AIMS), memory_found(lines)])))
    if arguments.only:
        return
    own = list(printed(alone(arguments.rounds)))
    size = list(printed(large(arguments.large))) if arguments.large else []
    if arguments.write:
        parts = {"facts": facts, "aims": found, "comparisons": [*table, *map(str, lines)], "alone": [*own, "", *size]}
        for name, part in parts.items():
            write_between(arguments.write, name, "\n".join(part).rstrip() + "\n")


def printed(lines: Iterator[Line] | Iterator[str]) -> Iterator:
    for line in lines:
        print(line, flush=True)
        yield line


if __name__ == "__main__":
    main()
