"""Kills runs at random moments, starts them again, and compares what they end with to runs that were left alone.

    python benchmarks/chaos.py [--kills=200] [--seed=0] [--write=chaos.md]

A run is `mixup_jax.main` and then `mixup_jax.evaluate`, with a small network on made-up images.  SIGKILL, or one
time in five SIGTERM, falls at a moment that is uniform over the time that the run takes when left alone.  After as
many starts as it takes, parameters, optimiser state, metrics.jsonl, records of predictions and every number of
evaluation.json must be those of an undisturbed run, bit for bit.  The exit code is 1 if one is not.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import json
import multiprocessing
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PRELOAD = [
    "benchmarks.small",
    "mixup_jax.training.loop",
    "mixup_jax.evaluation.run",
    "mixup_jax.main",
    "mixup_jax.evaluate",
]
SETTINGS = (
    "epochs=4",
    "batch_size=32",
    "log_every_steps=3",
    "tensorboard=False",
    "data.train_examples=160",
    "data.validation_examples=40",
    "data.crop_padding=2",
    "data.flip=True",
    "method.group_size=8",
    "evaluation.batch_size=40",
    "evaluation.ood=mnist",
    "checkpoint.every_steps=2",
)
STARTING, STEPS, SAVING, EVALUATING = "before the first step", "steps and validation", "a save", "evaluation"


@dataclass
class Tally:
    """What happened: kills by signal and moment, starts, and the runs that ended otherwise than they should."""

    kills: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    starts: int = 0
    runs: int = 0
    differences: list[str] = field(default_factory=list)


def work(workdir: Path, data_dir: Path, settings: Sequence[str], cache: Path | None) -> None:
    """Trains and evaluates, in a process of its own whose output goes to a file."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    os.dup2(os.open(workdir.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    import jax

    if cache is not None:  # compiled programs are kept, so that most of the time is training
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from benchmarks.small import add_model
    from mixup_jax import evaluate, main
    from mixup_jax.command import run_command

    add_model()

    places = [f"--workdir={workdir}", f"--data_dir={data_dir}"]
    overrides = [f"--config.{setting}" for setting in settings]
    code = run_command(main.main, [f"--config={ROOT / 'configs/quickstart.py'}:mixup", *overrides, *places])
    if code == 0:
        code = run_command(evaluate.main, places)
    sys.stdout.flush()
    os._exit(code)


def start(workdir: Path, data_dir: Path, settings: Sequence[str], cache: Path | None) -> Any:
    """Starts `work` in a child of a process that has imported everything and initialised nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=work, args=(workdir, data_dir, settings, cache))
    process.start()
    return process


def moment(workdir: Path, since: float) -> str:
    """Returns what a run is doing, from what it has written since it was started."""
    log = workdir.with_suffix(".log")
    # The last start's part of the log: every start begins with one of these lines, and every training ends with one.
    said = log.read_text().rpartition("epochs of")[2] if log.exists() else ""
    if "trained" in said:
        return EVALUATING
    if any(workdir.glob("checkpoints/*tmp*")):
        return SAVING
    metrics = workdir / "metrics.jsonl"
    return STEPS if metrics.exists() and metrics.stat().st_mtime > since else STARTING


def outcome(workdir: Path) -> dict[str, Any]:
    """Returns everything that must not depend on interruptions."""
    from mixup_jax.training.stored import inspect, steps_in

    last = inspect(workdir / "checkpoints", steps_in(workdir / "checkpoints")[-1])
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    return {
        "checkpoint": (last.step, last.damage, last.verified),
        **{f"checksum of {name}": last.facts["checksums"][name] for name in ("variables", "optimizer")},
        "metrics.jsonl": (workdir / "metrics.jsonl").read_bytes(),
        "predictions": {path.name: path.read_bytes() for path in (workdir / "predictions").glob("*.npz")},
        "evaluation.json": {name: value for name, value in evaluation.items() if name != "training_seconds"},
    }


def alone(workdir: Path, data_dir: Path, settings: Sequence[str], cache: Path | None) -> tuple[dict[str, Any], float]:
    """Lets a run go undisturbed; returns its outcome and the seconds it took."""
    begun = time.monotonic()
    process = start(workdir, data_dir, settings, cache)
    process.join()
    if process.exitcode:
        raise SystemExit(f"the undisturbed run failed:\n{workdir.with_suffix('.log').read_text()}")
    return outcome(workdir), time.monotonic() - begun


def disturbed(
    workdir: Path,
    data_dir: Path,
    settings: Sequence[str],
    cache: Path | None,
    generator: random.Random,
    seconds: float,
    kills: int,
    tally: Tally,
) -> dict[str, Any]:
    """Starts a run until it ends, with up to `kills` signals, each within `seconds` of a start; returns its outcome."""
    while True:
        since, tally.starts = time.time(), tally.starts + 1
        process = start(workdir, data_dir, settings, cache)
        if kills > 0:
            process.join(generator.uniform(0, seconds))
            number = signal.SIGTERM if generator.random() < 0.2 else signal.SIGKILL
            if process.is_alive():
                doing = moment(workdir, since)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
                    tally.kills[number.name, doing] += 1
                    kills -= 1
        process.join()
        if process.exitcode == 0:
            return outcome(workdir)
        if process.exitcode not in (-signal.SIGKILL, -signal.SIGTERM, 75):
            raise SystemExit(f"exit code {process.exitcode}:\n{workdir.with_suffix('.log').read_text()}")


def settings_of(mode: str) -> list[str]:
    """Returns the settings of a mode, MODEL-PARALLEL."""
    model, _, parallel = mode.partition("-")
    return [*SETTINGS, f"model.name={model}", "model.width=2", f"parallel={parallel}"]


def chaos(
    folder: Path,
    kills: int,
    seed: int,
    modes: Sequence[str],
    cache: Path | None,
    per_run: int = 20,
    after_each: Callable[[Tally], object] = lambda tally: None,
) -> Tally:
    """Disturbs runs, of each mode in turn, until `kills` signals have fallen; `after_each` run sees the tally."""
    generator, tally = random.Random(seed), Tally()
    from benchmarks.small import make_data

    make_data(folder / "data")
    expected = {}
    for mode in modes:
        settings = settings_of(mode)
        if cache is not None:
            alone(folder / f"{mode}-first", folder / "data", settings, cache)  # fills the cache, and is no measure
        expected[mode] = alone(folder / f"{mode}-alone", folder / "data", settings, cache)
    while (left := kills - sum(tally.kills.values())) > 0:
        mode = modes[tally.runs % len(modes)]
        workdir = folder / f"{mode}-{tally.runs}"
        undisturbed, seconds = expected[mode]
        settings = settings_of(mode)
        found = disturbed(workdir, folder / "data", settings, cache, generator, seconds, min(left, per_run), tally)
        tally.differences += [f"{workdir.name}: {name}" for name in undisturbed if found[name] != undisturbed[name]]
        tally.runs += 1
        after_each(tally)
        print(f"{sum(tally.kills.values())} of {kills} kills, {tally.runs} runs, {len(tally.differences)} differences")
    return tally


def report(tally: Tally, seed: int) -> str:
    """Returns the tally as Markdown."""
    import jax

    lines = [
        f"{sum(tally.kills.values())} signals on {datetime.date.today()} (seed {seed}, {platform.machine()}, "
        f"{os.cpu_count()} cores, jax {jax.__version__}): {tally.runs} runs, {tally.starts} starts, "
        f"**{len(tally.differences)} differences**.",
        "",
        "| moment | SIGKILL | SIGTERM |",
        "| --- | ---: | ---: |",
    ]
    for doing in (STARTING, STEPS, SAVING, EVALUATING):
        lines.append(f"| {doing} | {tally.kills['SIGKILL', doing]} | {tally.kills['SIGTERM', doing]} |")
    return "\n".join([*lines, *(f"- differs: {difference}" for difference in tally.differences)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", default="small-jit,small-pmap,resnet8-jit,resnet8-pmap")
    parser.add_argument(
        "--compile", action="store_true", help="keep no compiled programs, so that more kills fall there"
    )
    parser.add_argument("--write", type=Path, help="file for the report")
    flags = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        cache = None if flags.compile else Path(folder) / "cache"

        def write(tally: Tally) -> None:
            if flags.write:
                flags.write.write_text(report(tally, flags.seed))

        tally = chaos(Path(folder), flags.kills, flags.seed, flags.modes.split(","), cache, after_each=write)
    print(report(tally, flags.seed))
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
