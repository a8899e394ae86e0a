"""Timing a call, and timings of ours alone: for sizes and resamples that no other library has, and a file of 4 GB."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

TURN = 0.05  # seconds for which a side repeats its call, at least


def timed(call: Callable[[], object]) -> float:
    """Returns milliseconds of one call, the mean of a turn.

    The sleep lets waiting threads of the other side become idle.  A turn that is not counted fills the caches and wakes
    the cores: after 0.2 s of rest two to four calls take up to half as long again.
    """
    time.sleep(0.02)
    _turn(call)
    return _turn(call)


def _turn(call: Callable[[], object]) -> float:
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() - start < TURN:
        call()
        calls += 1
    return 1000 * (time.perf_counter() - start) / calls


FIRST_CALL = """
import time
import numpy as np
from mixup_jax import metrics
logits, labels = np.random.default_rng(0).normal(0, 2, (1000, 10)), np.zeros(1000, int)
start = time.perf_counter()
metrics.ece(metrics.bin_logits(logits, labels))
print(time.perf_counter() - start)
"""


def first_calls(rounds: int) -> Iterator[str]:
    """Yields lines on the first ECE of a process, without and with loops compiled by an earlier process."""
    new, later = [], []
    for _ in range(min(rounds, 3)):
        with tempfile.TemporaryDirectory() as folder:
            for seconds in (new, later):
                command, environment = [sys.executable, "-c", FIRST_CALL], {**os.environ, "NUMBA_CACHE_DIR": folder}
                answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
                seconds.append(float(answer.stdout))
    yield f"| first ECE of logits of a process: loads the compiled loops | {statistics.median(later):.2f} |"
    yield f"| the same where nothing was compiled before | {statistics.median(new):.2f} |"


def alone(rounds: int) -> Iterator[str]:
    """Yields lines on metrics that no other library has, or not at such sizes."""
    from mixup_jax import metrics

    rng = np.random.default_rng(1)
    many = rng.beta(4, 1, 10_000_000)
    right = rng.random(len(many)) < many
    few, few_right, other = many[:10_000], right[:10_000], rng.random(10_000) < many[:10_000]
    names = ("accuracy", "ece", "oe", "mce", "ece_l2", "debiased_ece_l2", "brier_reliability")
    cases: dict[str, Callable[[], object]] = {
        "ECE-15 of 10,000,000 confidences": lambda: metrics.ece(metrics.bin_confidences(many, right)),
        "smooth ECE of 10,000,000 confidences": lambda: metrics.smooth_ece(many, right),
        "adaptive ECE-15 of 10,000,000 confidences": lambda: metrics.adaptive_ece(many, right),
        "AURC of 10,000,000 scores": lambda: metrics.aurc(-many, right),
        "AUROC of 5,000,000 against 5,000,000": lambda: metrics.auroc(many[::2], many[1::2]),
        "intervals of accuracy, ECE and OE (15 and 100 bins), 1,000 resamples of 10,000": lambda: (
            metrics.bootstrap_intervals(few, few_right)
        ),
        "intervals of seven numbers at 15 bins, 1,000 resamples of 10,000": lambda: metrics.bootstrap_intervals(
            few, few_right, [15], names
        ),
        "intervals of adaptive and smooth ECE, 1,000 resamples of 10,000": lambda: metrics.bootstrap_intervals(
            few, few_right, [15], ["adaptive_ece", "smooth_ece"]
        ),
        "paired differences of accuracy, ECE and OE, 1,000 resamples of 10,000": lambda: (
            metrics.paired_bootstrap_differences(few, few_right, few, other)
        ),
    }
    yield "| ours alone | s |"
    yield "| --- | --- |"
    for name, call in cases.items():
        seconds = statistics.median(timed(call) for _ in range(min(rounds, 3))) / 1000
        yield f"| {name} | {seconds:.2f} |"
    yield from first_calls(rounds)


def large(folder: Path) -> Iterator[str]:
    """Yields a line on `evaluate` for 1,000,000 x 1,000 logits in a memory-mapped file."""
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"test": 1_000_000, "val": 50_000, "ood": 50_000}
    for name, n in parts.items():
        logits = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n, 1000))
        labels = np.empty(n, np.int64)
        for first in range(0, n, 10_000):
            rows = rng.standard_normal((10_000, 1000), np.float32) * np.float32(2)
            logits[first : first + 10_000] = rows
            labels[first : first + 10_000] = (rows + rng.gumbel(0, 1.5, rows.shape)).argmax(axis=1)
        logits.flush()
        np.save(folder / f"{name}_labels.npy", labels)
    command = [
        *(sys.executable, "-m", "mixup_jax.evaluate", f"--predictions={folder}/test.npy"),
        *(f"--labels={folder}/test_labels.npy", f"--validation={folder}/val.npy"),
        *(f"--validation_labels={folder}/val_labels.npy", f"--ood={folder}/ood.npy", f"--output={folder}/e.json"),
    ]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            peak = max(peak, anonymous_kib(running.pid))
            time.sleep(0.05)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - start
    yield (
        "- `evaluate` on a memory-mapped file of 1,000,000 x 1,000 float32 logits, with a temperature from 50,000 more "
        f"and an out-of-distribution set of 50,000: {seconds:.0f} s, at most {peak / 1024**2:.2f} GiB "
        "beyond the file's pages."
    )


def anonymous_kib(process: int) -> int:
    """Returns the memory of a process in KiB, without the pages of mapped files."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("RssAnon:")[2].split()[0]) if "RssAnon:" in status else 0
