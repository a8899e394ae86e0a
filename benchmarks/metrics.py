"""Our metrics against torchmetrics, netcal, relplot and scikit-learn, on the same numbers, in one run.

    pip install torch torchmetrics netcal relplot scikit-learn
    python benchmarks/metrics.py [--sizes=100000x10,1000000x10,50000x1000] [--write=docs/benchmarks-metrics.md]

For each metric and size: the median time of each side over interleaved rounds, their ratio (above 1 we
are faster), the difference of the results, and how much memory each side needed beyond its input (the
growth of the peak resident size of a process of its own).  A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Threads of torch that wait for work by spinning would slow down whoever runs next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

PEERS = ("torchmetrics", "netcal", "relplot", "scikit-learn")
MODULES = {"scikit-learn": "sklearn"}
SIZES = "100000x10,1000000x10,50000x1000"
LARGE = 10_000_000  # logits from which memory is measured; below, it is lost in the noise
HEADER = "| metric | N x K | peer | ours ms | peer ms | ratio | difference | ours MiB | peer MiB |"


class Inputs:
    """One set of predictions in the form that each side takes; made before any clock runs."""

    def __init__(self, n: int, k: int) -> None:
        from mixup_jax import metrics

        rng = np.random.default_rng(0)
        self.n, self.k = n, k
        self.logits = rng.normal(0, 2, (n, k)).astype(np.float32)
        self.labels = np.argmax(self.logits + 1.5 * rng.gumbel(0, 1, self.logits.shape).astype(np.float32), axis=1)
        self.confidence, self.correct = metrics.confidence_and_correct(self.logits, self.labels)
        self.event = self.correct.astype(np.float64)
        self.inside = rng.normal(0, 1, n)
        self.outside = rng.normal(1, 1, n)
        self.scores, self.is_out = np.r_[self.inside, self.outside], np.r_[np.zeros(n, int), np.ones(n, int)]
        exponentials = np.exp(self.logits)
        self.probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)


def ours(name: str, x: Inputs) -> float:
    from mixup_jax import metrics

    if name == "ECE-15 of logits":
        return metrics.ece(metrics.bin_confidences(*metrics.confidence_and_correct(x.logits, x.labels)))
    if name == "ECE-15":
        return metrics.ece(metrics.bin_confidences(x.confidence, x.correct))
    if name == "OE-15":
        return metrics.oe(metrics.bin_confidences(x.confidence, x.correct))
    if name == "adaptive ECE-15":
        return metrics.adaptive_ece(x.confidence, x.correct)
    if name == "smooth ECE":
        return metrics.smooth_ece(x.confidence, x.correct)
    if name == "NLL of logits":
        return metrics.nll(x.logits, x.labels)
    return metrics.auroc(x.inside, x.outside)


def torchmetrics_value(name: str, x: Inputs) -> float:
    import torch
    import torchmetrics.functional.classification as tm

    if name == "ECE-15 of logits":
        logits, labels = torch.from_numpy(x.logits), torch.from_numpy(x.labels)
        return float(tm.multiclass_calibration_error(logits, labels, x.k, n_bins=15))
    if name == "ECE-15":
        # Its binary form takes the probability of the event "it is right", as ours does.
        confidence, correct = torch.from_numpy(x.confidence), torch.from_numpy(x.correct.astype(np.int64))
        return float(tm.binary_calibration_error(confidence, correct, n_bins=15))
    return float(tm.binary_auroc(torch.from_numpy(x.scores), torch.from_numpy(x.is_out)))


def netcal_value(name: str, x: Inputs) -> float:
    import netcal.metrics

    if name == "ECE-15 of logits":
        return float(netcal.metrics.ECE(15).measure(x.probabilities, x.labels))  # probabilities were free of charge
    return float(netcal.metrics.ECE(15).measure(x.confidence, x.correct.astype(int)))


def relplot_value(name: str, x: Inputs) -> float:
    import relplot

    return float(relplot.smECE(x.confidence, x.event))


def sklearn_value(name: str, x: Inputs) -> float:
    import sklearn.calibration
    import sklearn.metrics

    if name == "AUROC":
        return float(sklearn.metrics.roc_auc_score(x.is_out, x.scores))
    if name == "NLL of logits":
        return float(sklearn.metrics.log_loss(x.labels, x.probabilities, labels=np.arange(x.k)))
    strategy = "quantile" if name == "adaptive ECE-15" else "uniform"
    accuracy, mean = sklearn.calibration.calibration_curve(x.correct, x.confidence, n_bins=15, strategy=strategy)
    edges = np.linspace(0, 1, 16)
    if strategy == "quantile":
        edges = np.percentile(x.confidence, edges * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], x.confidence), minlength=15)
    weights = counts[counts > 0] / x.n
    if name == "OE-15":
        return float(weights @ (mean * np.maximum(mean - accuracy, 0)))
    return float(weights @ np.abs(accuracy - mean))


SIDES: dict[str, Callable[[str, Inputs], float]] = {
    "ours": ours,
    "torchmetrics": torchmetrics_value,
    "netcal": netcal_value,
    "relplot": relplot_value,
    "scikit-learn": sklearn_value,
}
COMPARISONS = {
    "ECE-15": ("torchmetrics", "netcal", "scikit-learn"),
    "ECE-15 of logits": ("torchmetrics", "netcal"),
    "OE-15": ("scikit-learn",),
    "adaptive ECE-15": ("scikit-learn",),
    "smooth ECE": ("relplot",),
    "AUROC": ("scikit-learn", "torchmetrics"),
    "NLL of logits": ("scikit-learn",),
}
WIDE = ("ECE-15 of logits", "NLL of logits")  # the others do not depend on K


def peak_of(side: str, name: str, file: str) -> float:
    """Returns by how many MiB one call raises the peak resident size of this (fresh) process."""
    x = Inputs.__new__(Inputs)
    with np.load(file) as arrays:  # read, not made: making them would need more than most metrics do
        x.__dict__.update({key: arrays[key] for key in arrays.files})
    x.n, x.k = x.logits.shape
    SIDES[side](name, Inputs(1000, x.k))  # imports and first-call set-up are not the metric's
    before = peak_kib()
    SIDES[side](name, x)
    return (peak_kib() - before) / 1024


def peak_kib() -> int:
    """Not getrusage's, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def memory(side: str, name: str, file: str) -> float | None:
    command = [sys.executable, __file__, "--peak", json.dumps([side, name, file])]
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    return float(answer.stdout) if answer.returncode == 0 else None


def compare(name: str, peer: str, x: Inputs, rounds: int, peaks: dict[str, float | None]) -> str:
    times: dict[str, list[float]] = {"ours": [], peer: []}
    results = {side: SIDES[side](name, x) for side in times}
    for _ in range(rounds):
        for side, seconds in times.items():
            start = time.perf_counter()
            SIDES[side](name, x)
            seconds.append(time.perf_counter() - start)
    own, other = (1000 * statistics.median(seconds) for seconds in times.values())
    difference = abs(results["ours"] - results[peer])
    sizes = [peaks.get(side) for side in times]
    shown = ["-" if size is None else f"{size:.0f}" for size in sizes]
    return (
        f"| {name} | {x.n:,} x {x.k} | {peer} | {own:.1f} | {other:.1f} | {other / own:.1f} | "
        f"{difference:.0e} | {shown[0]} | {shown[1]} |"
    )


def machine() -> list[str]:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    names = ("numpy", "torch", *PEERS)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if installed(name)]
    return [
        f"- {datetime.date.today().isoformat()}, {platform.system()}, {cpu}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        f"- {', '.join(versions)}",
    ]


def installed(name: str) -> bool:
    return importlib.util.find_spec(MODULES.get(name, name)) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help="NxK, separated by commas (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--no-memory", action="store_true", help="do not start a process for each side's peak")
    parser.add_argument("--write", metavar="FILE", help="also write the page")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak_of(*json.loads(arguments.peak)))
        return

    load_before = os.getloadavg()[0]
    lines = [HEADER, "|" + " --- |" * HEADER.count(" |")]
    missing = [peer for peer in PEERS if not installed(peer)]
    for peer in missing:
        print(f"{peer} is not installed and left out")
    print(*machine(), *lines, sep="\n", flush=True)
    for size in arguments.sizes.split(","):
        x = Inputs(*(int(part) for part in size.split("x")))
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "inputs.npz")
            np.savez(file, **{key: value for key, value in vars(x).items() if isinstance(value, np.ndarray)})
            for name in COMPARISONS if x.k <= 10 else WIDE:
                peers = [peer for peer in COMPARISONS[name] if peer not in missing]
                small = x.logits.size < LARGE
                measured = () if arguments.no_memory or small or not peers else ("ours", *peers)
                peaks = {side: memory(side, name, file) for side in measured}
                for peer in peers:
                    lines.append(compare(name, peer, x, arguments.rounds, peaks))
                    print(lines[-1], flush=True)
    if arguments.write:
        before, after = f"{load_before:.1f}", f"{os.getloadavg()[0]:.1f}"
        load = (
            f"- Load average {before} before and {after} after the run: as far as this exceeds the cores, other work "
            "competed, and single lines may be off by a factor of 2"
        )
        Path(arguments.write).write_text(page([*machine(), load], lines))


def page(facts: list[str], table: list[str]) -> str:
    return "\n".join(
        [
            "# Metrics side by side",
            "",
            "Written by `python benchmarks/metrics.py --write=docs/benchmarks-metrics.md`, which is how to repeat it.",
            "Each line is one comparison in one process: median times over interleaved rounds, so that both sides",
            "meet the same load; their ratio (above 1 we are faster); the difference of the two results; and, where",
            "the input is large, by how much one call raises the peak resident size of a fresh process. All inputs",
            "are in memory, in the form each side takes, before the clock runs: torch reads numpy's memory, netcal",
            "and scikit-learn get their probabilities made. Ours computes in float64.",
            "",
            *facts,
            "",
            *table,
            "",
            "- Differences of ECE against torchmetrics are its float32 sums; of smooth ECE, relplot's steps of 1/1024.",
            "- OE and ECE by scikit-learn are its calibration curve plus the counts that it does not return.",
            "- `of logits` includes the softmax, but for netcal and scikit-learn, which are given probabilities.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
