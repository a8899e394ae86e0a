"""How long a start takes: imports, evaluating a file of predictions, and the first training step.

    python benchmarks/startup.py [--rounds=5] [--write]

Every start is a new process.  The first step is that of a ResNet-18 of width 16 on 28x28 images, first with an empty
folder for jax's persistent compilation cache, then with the cache of the first start.  "Compiling" is timed by jax: it
is XLA's work on programs, or reading them from the cache.  Tracing and lowering, which come before and are not cached,
are part of the time that the first step takes beyond the second.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from document import machine, table
from side_by_side import ROOT, parser, publish

IMPORTS = {
    "`import mixup_jax.metrics`": "import mixup_jax.metrics",
    "`from mixup_jax import mixup, metrics`": "from mixup_jax import mixup, metrics",
    "of which `import jax`": "import jax",
}
FIRST_STEP = """
import sys, time
start = time.perf_counter()
sys.path.insert(0, "benchmarks")
import jax
compiling = 0.0
def add(event, seconds, **_):
    global compiling
    compiling += seconds * (event == "/jax/core/compile/backend_compile_duration")
jax.monitoring.register_event_duration_secs_listener(add)
from networks import BATCH, CASES, EXAMPLES
from mixup_jax.data.sets import ExampleSet
from mixup_jax.training.trainer import prepare

case = CASES[0]
ready = time.perf_counter()
run, state = prepare(case.config, case.spec, EXAMPLES // BATCH, case.vocabulary())
feed = run.batches(ExampleSet(*case.examples(), "random"), 0)
def step():
    global state
    state, metrics = run.step(state, *next(feed))
    jax.block_until_ready(metrics)
step()
first = time.perf_counter()
step()
second = time.perf_counter()
print(first - start, (first - ready) - (second - first), compiling)
"""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Returns the seconds that a process took and what it printed."""
    start = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    return time.perf_counter() - start, answer.stdout


def import_seconds(statement: str) -> float:
    """Returns how long an import takes in a fresh interpreter, without the interpreter's own start."""
    timed = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    return float(run(["-c", timed])[1])


def judging_seconds(folder: Path) -> float:
    """Returns how long `mixup_jax.evaluate --predictions` takes for 10,000 examples of 10 classes, start included."""
    generator = np.random.default_rng(0)
    file = folder / "predictions.npz"
    np.savez(file, logits=generator.normal(0, 2, (10_000, 10)).astype(np.float32), labels=np.arange(10_000) % 10)
    output = folder / "evaluation.json"
    return run(["-m", "mixup_jax.evaluate", f"--predictions={file}", f"--output={output}"])[0]


def first_step(cache: Path) -> list[float]:
    """Returns the seconds to the end of the first step, those of tracing, lowering and compiling, and of compiling."""
    # By default jax caches only programs that took a second to compile; a start has about ten smaller ones.
    kept = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return [float(seconds) for seconds in run(["-c", FIRST_STEP], kept)[1].split()[-3:]]


def main() -> None:
    flags = parser(__doc__, rounds=5)
    arguments = flags.parse_args()
    found: dict[str, list[float]] = {label: [] for label in IMPORTS}
    judging, cold, warm = [], [], []
    for _ in range(arguments.rounds):
        for label, statement in IMPORTS.items():
            found[label].append(import_seconds(statement))
        with tempfile.TemporaryDirectory() as folder:
            judging.append(judging_seconds(Path(folder)))
            cold.append(first_step(Path(folder)))
            warm.append(first_step(Path(folder)))
    rows = [[label, f"{statistics.median(seconds):.2f}"] for label, seconds in found.items()]
    rows.append(["`mixup_jax.evaluate --predictions`, 10,000 x 10", f"{statistics.median(judging):.2f}"])
    stages = ("to the end of the first step", "of it tracing, lowering and compiling", "of that compiling")
    for stage, *times in zip(stages, zip(*cold, strict=True), zip(*warm, strict=True), strict=True):
        first, second = (statistics.median(each) for each in times)
        rows.append([stage, f"{first:.2f}"])
        rows.append([f"{stage}, second start", f"{second:.2f} ({second / first:.2f} of the first)"])
    lines = [*table(("", "seconds"), rows), "", machine("jax", "flax", "numpy")]
    publish("startup", lines, arguments.write)


if __name__ == "__main__":
    main()
