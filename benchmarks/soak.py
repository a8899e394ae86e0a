"""Trains for 100,000 tiny steps, and checks that memory, open files, threads and logs do not grow.

    python benchmarks/soak.py [--steps=100000] [--parallel=jit] [--plot=soak.png] [--write=docs/reliability.md]

The run is `training.loop.train` with validations, checkpoints, TensorBoard and its diagrams; only the network and its
batches are tiny.  The process is sampled five times a second.  A save needs files and threads for a short time, and
thread pools vary, so medians over tenths of the steps are compared.  The first tenth is the warm-up, in which libraries
load and fill their pools.  From the second tenth to the last, resident memory must grow by less than 1 %, and so must
the process's private memory, swapped or not (the kernel may drop pages of library files, which would hide a leak).
Open files and threads must not grow.  The log must have exactly one line for every interval and validation.  The exit
code is 1 otherwise.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["JAX_PLATFORMS"] = "cpu"

from benchmarks.document import write_between

BATCH, STEPS_PER_EPOCH, LOG_EVERY = 8, 1000, 100
SECONDS_BETWEEN_LOOKS = 0.2


class Sample(NamedTuple):
    """The process at a moment: seconds since the start, steps, bytes resident and private, open files, threads, log."""

    seconds: float
    step: int
    resident: int
    own: int
    files: int
    threads: int
    log: int


def sample(workdir: Path, start: float) -> Sample:
    """Samples this process and the log of its run."""
    log = workdir / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    step = 0
    if size:
        with log.open("rb") as file:
            file.seek(max(0, size - 2000))
            lines = file.read().split(b"\n")
        step = json.loads(lines[-2])["step"] if len(lines) > 1 and lines[-2].startswith(b"{") else 0
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, anonymous, swapped = (1024 * int(status[name].split()[0]) for name in ("VmRSS", "RssAnon", "VmSwap"))
    files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    return Sample(time.monotonic() - start, step, resident, anonymous + swapped, files, threads, size)


def train_watched(folder: Path, steps: int, parallel: str) -> list[Sample]:
    """Trains, and returns the samples."""
    from benchmarks.small import NAME, add_model, make_data
    from mixup_jax.config import Config, DataConfig, EvaluationConfig, ModelConfig
    from mixup_jax.methods.method import Method
    from mixup_jax.training.loop import train

    add_model()
    make_data(folder / "data", train=BATCH * STEPS_PER_EPOCH + 100)
    config = Config(
        experiment="soak",
        epochs=-(-steps // STEPS_PER_EPOCH),
        batch_size=BATCH,
        log_every_steps=LOG_EVERY,
        parallel=parallel,
        data=DataConfig(validation_examples=100),
        model=ModelConfig(name=NAME, width=4),
        method=Method(mixup_alpha=0.2),
        evaluation=EvaluationConfig(batch_size=100),
    )
    samples: list[Sample] = []
    start, done = time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(SECONDS_BETWEEN_LOOKS):
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


class Tenth(NamedTuple):
    """A tenth of a run: median bytes resident and private; median, lowest and highest files and threads."""

    resident: float
    own: float
    files: tuple[float, int, int]
    threads: tuple[float, int, int]


def tenth(samples: Sequence[Sample], number: int) -> Tenth:
    """Returns the figures of a tenth of the steps, counted from 0."""
    size = samples[-1].step / 10
    part = [one for one in samples if min(int(one.step / size), 9) == number]
    counts = ([one.files for one in part], [one.threads for one in part])
    files, threads = ((statistics.median(values), min(values), max(values)) for values in counts)
    resident, own = (
        statistics.median(values) for values in zip(*((one.resident, one.own) for one in part), strict=True)
    )
    return Tenth(resident, own, files, threads)


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns the growth of medians from the second tenth to the last: memory as a fraction."""
    early, late = tenth(samples, 1), tenth(samples, 9)
    return {
        "resident": late.resident / early.resident - 1,
        "own": late.own / early.own - 1,
        "files": late.files[0] - early.files[0],
        "threads": late.threads[0] - early.threads[0],
    }


def flat(grown: Mapping[str, float]) -> bool:
    """Returns whether nothing grew beyond what is allowed."""
    return max(grown["resident"], grown["own"]) < 0.01 and max(grown["files"], grown["threads"]) <= 0


def report(samples: Sequence[Sample], parallel: str) -> str:
    """Returns the tenths of a run as Markdown."""
    import jax

    lines = [
        f"{samples[-1].step:,} steps by {parallel} in {samples[-1].seconds:.0f} s on {datetime.date.today()} "
        f"({platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}); metrics.jsonl grew by "
        f"{samples[-1].log / samples[-1].step * 1000:.0f} bytes in 1,000 steps.",
        "",
        *(
            "| tenth of the steps | resident MB | own MB | open files | threads |",
            "| --- | ---: | ---: | ---: | ---: |",
        ),
    ]
    for number in range(10):
        one = tenth(samples, number)
        files, threads = (f"{middle:g} ({low} to {high})" for middle, low, high in (one.files, one.threads))
        lines.append(f"| {number + 1} | {one.resident / 1e6:.1f} | {one.own / 1e6:.1f} | {files} | {threads} |")
    grown = growth(samples)
    lines += [
        "",
        f"From the second tenth to the last, resident memory grew by {grown['resident']:.2%}, the process's own by "
        f"{grown['own']:.2%}, open files by {grown['files']:g} and threads by {grown['threads']:g}.",
    ]
    return "\n".join(lines) + "\n"


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Draws resident memory, open files, threads and the log's size over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    steps = [one.step for one in samples]
    curves = {
        "resident memory, and the process's own (MB)": [one.resident / 1e6 for one in samples],
        "open files": [one.files for one in samples],
        "threads": [one.threads for one in samples],
        "metrics.jsonl (kB)": [one.log / 1e3 for one in samples],
    }
    for place, (name, values) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(2, 2, place)
        axes.plot(steps, values, linewidth=1)
        if "own" in name:
            axes.plot(steps, [one.own / 1e6 for one in samples], linewidth=1)
        axes.set(xlabel="steps", title=name, ylim=(0, 1.15 * max(values)))
        axes.axvspan(0, 0.1 * steps[-1], color="0.9")
    figure.suptitle(f"{steps[-1]:,} steps in one process; the warm-up is shaded")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--parallel", default="jit")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--write", type=Path, help="document whose report is replaced")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = train_watched(Path(folder), flags.steps, flags.parallel)
    text = report(samples, flags.parallel)
    print(text)
    if flags.plot:
        draw(samples, flags.plot)
    if flags.write:
        write_between(flags.write, "soak", text)
    return 0 if flat(growth(samples)) else 1


if __name__ == "__main__":
    sys.exit(main())
