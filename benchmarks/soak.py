"""Trains for 100,000 tiny steps, and watches whether memory, open files, threads or logs grow.

    python benchmarks/soak.py [--steps=100000] [--plot=docs/images/soak.png] [--write=soak.json]

The run is `training.loop.train` as it is, with validations, checkpoints and logs; only the network and its batches
are tiny.  Once a second the process looks at itself.  After the warm-up, the first tenth of the steps, resident
memory must not grow by 1 % (the median of the last tenth against that of the tenth after the warm-up), open files
and threads must not grow at all, and the log has a line for every interval and validation, no more.  The exit
code is 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["JAX_PLATFORMS"] = "cpu"

BATCH, STEPS_PER_EPOCH, LOG_EVERY = 8, 1000, 100


class Sample(NamedTuple):
    """The process at a moment: seconds since the start, steps taken, bytes resident, open files, threads, log bytes."""

    seconds: float
    step: int
    resident: int
    files: int
    threads: int
    log: int


def sample(workdir: Path, start: float) -> Sample:
    """Looks at this process and at the log of its run."""
    log = workdir / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    step = 0
    if size:
        with log.open("rb") as file:
            file.seek(max(0, size - 2000))
            lines = file.read().split(b"\n")
        step = json.loads(lines[-2])["step"] if len(lines) > 1 and lines[-2].startswith(b"{") else 0
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    return Sample(time.monotonic() - start, step, resident, files, threads, size)


def train_watched(folder: Path, steps: int) -> list[Sample]:
    """Trains, and returns what was seen meanwhile."""
    from benchmarks.small import NAME, add_model, make_data
    from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig
    from mixup_jax.method import Method
    from mixup_jax.training.loop import train

    add_model()
    make_data(folder / "data", train=BATCH * STEPS_PER_EPOCH + 100)
    config = Config(
        experiment="soak",
        epochs=-(-steps // STEPS_PER_EPOCH),
        batch_size=BATCH,
        log_every_steps=LOG_EVERY,
        tensorboard=False,
        data=DataConfig(validation_examples=100),
        model=ModelConfig(name=NAME, width=4),
        method=Method(mixup_alpha=0.2),
        evaluation=EvaluationConfig(batch_size=100),
    )
    samples: list[Sample] = []
    start, done = time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            samples.append(sample(folder / "run", start))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        train(config, folder / "run", folder / "data")
    finally:
        done.set()
        watcher.join()
    expected = config.epochs * (STEPS_PER_EPOCH // LOG_EVERY + 1)
    lines = len((folder / "run" / "metrics.jsonl").read_text().splitlines())
    if lines != expected:
        raise SystemExit(f"metrics.jsonl has {lines} lines; expected {expected}")
    return samples


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns growth from the second tenth of the steps to the last, and the extremes."""
    import numpy as np

    last = samples[-1].step
    second = [one for one in samples if 0.1 * last <= one.step < 0.2 * last]
    tenth = [one for one in samples if one.step >= 0.9 * last]
    early, late = (float(np.median([one.resident for one in part])) for part in (second, tenth))
    return {
        "steps": last,
        "seconds": samples[-1].seconds,
        "resident_mb_early": early / 1e6,
        "resident_mb_late": late / 1e6,
        "resident_growth": late / early - 1,
        "files_early": max(one.files for one in second),
        "files_late": max(one.files for one in tenth),
        "threads_early": max(one.threads for one in second),
        "threads_late": max(one.threads for one in tenth),
        "log_bytes_per_1000_steps": samples[-1].log / last * 1000,
    }


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Draws resident memory, open files, threads and the log's size over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    steps = [one.step for one in samples]
    curves = {
        "resident memory (MB)": [one.resident / 1e6 for one in samples],
        "open files": [one.files for one in samples],
        "threads": [one.threads for one in samples],
        "metrics.jsonl (kB)": [one.log / 1e3 for one in samples],
    }
    for place, (name, values) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(2, 2, place)
        axes.plot(steps, values, linewidth=1)
        axes.set(xlabel="steps", title=name, ylim=(0, 1.15 * max(values)))
        axes.axvspan(0, 0.1 * steps[-1], color="0.9")
    figure.suptitle(f"{steps[-1]:,} steps in one process; the warm-up is shaded")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--write", type=Path)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = train_watched(Path(folder), flags.steps)
    found = summary(samples)
    print(json.dumps(found, indent=2))
    if flags.plot:
        draw(samples, flags.plot)
    if flags.write:
        flags.write.write_text(json.dumps({"summary": found, "samples": samples}))
    flat = found["files_late"] <= found["files_early"] and found["threads_late"] <= found["threads_early"]
    return 0 if found["resident_growth"] < 0.01 and flat else 1


if __name__ == "__main__":
    sys.exit(main())
