"""Kills runs at random moments, starts them again, and compares their results with those of undisturbed runs.

    python benchmarks/chaos.py [--kills=200] [--seed=0] [--write=docs/determinism.md]

A run is `mixup_jax.main` and then `mixup_jax.evaluate`, with mixup, dropout, crops and mirrors, of a network on two
virtual devices: a small one or ResNet-8 on made-up images that stay on the devices, or ResNet-8 on photographs that
Grain streams.  SIGKILL, or one time in five SIGTERM, is sent at a moment that is uniform over the processor time of an
undisturbed run (other programs change the time on the clock), and up to SLACK later.  The run is started until it
finishes.  Then parameters, optimiser state, metrics.jsonl, records of predictions and every number of evaluation.json
must be those of an undisturbed run, bit for bit; otherwise the exit code is 1.  Compiled programs are cached between
starts, except in the modes called cold.
"""

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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.document import write_between

PRELOAD = [
    "benchmarks.small",
    "mixup_jax.training.loop",
    "mixup_jax.evaluation.run",
    "mixup_jax.main",
    "mixup_jax.evaluate",
]
MODES = (
    *("small-jit", "small-pmap", "resnet8-jit", "resnet8-pmap", "photographs-jit", "photographs-pmap"),
    *("small-jit-cold", "resnet8-pmap-cold"),
)
"""Network or input, mapping, and whether every start compiles anew."""
SETTINGS = (
    "log_every_steps=3",
    "tensorboard=False",
    "method.group_size=8",
    "model.width=2",
    "model.dropout=0.2",
    "evaluation.batch_size=40",
    "checkpoint.every_steps=3",
)
RESIDENT = (
    "epochs=6",
    "batch_size=32",
    "data.train_examples=160",
    "data.validation_examples=40",
    "data.crop_padding=2",
    "data.flip=True",
    "evaluation.ood=mnist",
)
PHOTOGRAPHS = (
    "batch_size=16",
    "epochs=2",
    "data.name=imagenet2012",
    "data.train_examples=0",
    "data.validation_examples=8",
    "data.crop=random_resized",
    "data.image_size=32",
    "data.workers=0",
    "model.name=resnet8",
    "model.stem=imagenet",
    "evaluation.ood=gaussian_noise",
    "evaluation.ood_examples=40",
)
MOST_KILLS = 10  # of a run
SLACK = 0.2
"""Seconds on the clock, so that signals also arrive while the run waits for a disk."""
STARTING, COMPILING, STEPS = "loading and restoring", "the first compilation", "steps and validation"
SAVING, EVALUATING = "a save", "evaluation"
MOMENTS = (STARTING, COMPILING, STEPS, SAVING, EVALUATING)


@dataclass
class Tally:
    """Counts of kills by signal, moment and mode, of starts and of runs, and the differences that were found."""

    kills: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    kills_of_mode: collections.Counter[str] = field(default_factory=collections.Counter)
    runs_of_mode: collections.Counter[str] = field(default_factory=collections.Counter)
    starts: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """The number of runs that finished."""
        return self.runs_of_mode.total()


@dataclass(frozen=True)
class Case:
    """What is run: a mode, where its data is, and the cache of compiled programs; None compiles at every start."""

    mode: str
    data_dir: Path
    cache: Path | None

    @property
    def settings(self) -> list[str]:
        """The settings that differ from the config's."""
        what, parallel, *_ = self.mode.split("-")
        fed = PHOTOGRAPHS if what == "photographs" else (*RESIDENT, f"model.name={what}")
        return [*SETTINGS, *fed, f"parallel={parallel}"]


def work(workdir: Path, case: Case) -> None:
    """Trains and evaluates, in a separate process whose output goes to a file."""
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    os.dup2(os.open(workdir.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    import jax

    if case.cache is not None:  # cache compiled programs, so that most of the time is training
        jax.config.update("jax_compilation_cache_dir", str(case.cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from benchmarks.small import add_model
    from mixup_jax import evaluate, main
    from mixup_jax.command import run_command

    add_model()

    places = [f"--workdir={workdir}", f"--data_dir={case.data_dir}"]
    overrides = [f"--config.{setting}" for setting in case.settings]
    code = run_command(main.main, [f"--config={ROOT / 'configs/quickstart.py'}:mixup", *overrides, *places])
    if code == 0:
        code = run_command(evaluate.main, places)
    sys.stdout.flush()
    os._exit(code)


def start(workdir: Path, case: Case) -> Any:
    """Starts `work` in a child of a process that has imported everything and initialised nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=work, args=(workdir, case))
    process.start()
    return process


def moment(workdir: Path) -> str:
    """Returns what a run is doing, judged by what it has written since its start."""
    log = workdir.with_suffix(".log")
    # The last start's part of the log: every start begins with one of these lines, and every training ends with one.
    said = log.read_text().rpartition("epochs of")[2] if log.exists() else ""
    if "trained" in said:
        return EVALUATING
    if any(workdir.glob("checkpoints/*tmp*")):
        return SAVING
    _, compiling, after = said.partition("comes after it\n")
    if not compiling:
        return STARTING
    return STEPS if after or (workdir / "metrics.jsonl").stat().st_mtime > log.stat().st_mtime else COMPILING


def outcome(workdir: Path) -> dict[str, Any]:
    """Returns everything that must not depend on interruptions."""
    from mixup_jax.store.verify import inspect, steps_in

    last = inspect(workdir / "checkpoints", steps_in(workdir / "checkpoints")[-1])
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    return {
        "checkpoint": (last.step, last.damage, last.verified),
        **{f"checksum of {name}": last.facts["checksums"][name] for name in ("variables", "optimizer")},
        "metrics.jsonl": (workdir / "metrics.jsonl").read_bytes(),
        "predictions": {path.name: path.read_bytes() for path in (workdir / "predictions").glob("*.npz")},
        "evaluation.json": {name: value for name, value in evaluation.items() if name != "training_seconds"},
    }


def processor_seconds(process: Any) -> float:
    """Returns the processor time that a process has taken, 0 when it is gone."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alone(workdir: Path, case: Case) -> tuple[dict[str, Any], float]:
    """Lets a run go undisturbed; returns its outcome and the processor seconds it took."""
    process, seconds = start(workdir, case), 0.0
    while process.is_alive():
        process.join(0.02)
        seconds = max(seconds, processor_seconds(process))
    if process.exitcode:
        raise SystemExit(f"the undisturbed run failed:\n{workdir.with_suffix('.log').read_text()}")
    return outcome(workdir), seconds


def disturbed(
    workdir: Path, case: Case, generator: random.Random, seconds: float, kills: int, tally: Tally
) -> dict[str, Any]:
    """Starts a run until it ends, with up to `kills` signals, each in the first `seconds` of a start.

    Returns its outcome.
    """
    while True:
        tally.starts += 1
        process = start(workdir, case)
        if kills > 0:
            until, slack = generator.uniform(0, seconds), generator.uniform(0, SLACK)
            number = signal.SIGTERM if generator.random() < 0.2 else signal.SIGKILL
            while process.is_alive() and processor_seconds(process) < until:
                process.join(0.005)
            process.join(slack)
            if process.is_alive():
                doing = moment(workdir)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
                    tally.kills[number.name, doing] += 1
                    tally.kills_of_mode[case.mode] += 1
                    kills -= 1
        process.join()
        if process.exitcode == 0:
            return outcome(workdir)
        if process.exitcode not in (-signal.SIGKILL, -signal.SIGTERM, 75):
            raise SystemExit(f"exit code {process.exitcode}:\n{workdir.with_suffix('.log').read_text()}")


def make_all_data(data_dir: Path, modes: Sequence[str]) -> None:
    """Writes the data of the modes."""
    from benchmarks.small import make_data

    make_data(data_dir)
    if any(mode.startswith("photographs") for mode in modes):
        from tests.photographs import write_imagenet

        write_imagenet(data_dir, train=72)


def chaos(folder: Path, kills: int, seed: int, modes: Sequence[str]) -> Tally:
    """Disturbs runs, of each mode in turn, until `kills` signals have fallen."""
    generator, tally = random.Random(seed), Tally()
    make_all_data(folder / "data", modes)
    expected = {}
    while (left := kills - tally.kills.total()) > 0:
        mode = modes[tally.runs % len(modes)]
        case = Case(mode, folder / "data", None if mode.endswith("-cold") else folder / "cache")
        if mode not in expected:
            if case.cache is not None:
                alone(folder / f"{mode}-first", case)  # fills the cache; its time is not used
            expected[mode] = alone(folder / f"{mode}-alone", case)
        undisturbed, seconds = expected[mode]
        workdir = folder / f"{mode}-{tally.runs}"
        found = disturbed(workdir, case, generator, seconds, min(left, MOST_KILLS), tally)
        tally.differences += [f"{workdir.name}: {name}" for name in undisturbed if found[name] != undisturbed[name]]
        tally.runs_of_mode[mode] += 1
        print(
            f"{tally.kills.total()} of {kills} kills, {tally.runs} runs, {len(tally.differences)} differences "
            f"({mode} takes {seconds:.1f} s of a processor alone)",
            flush=True,
        )
    return tally


def report(tally: Tally, seed: int) -> str:
    """Returns the tally as Markdown."""
    import jax

    lines = [
        f"{tally.kills.total()} signals on {datetime.date.today()} (seed {seed}, {platform.machine()}, "
        f"{os.cpu_count()} cores, jax {jax.__version__}): {tally.runs} completed runs, {tally.starts} starts, "
        f"**{len(tally.differences)} differences**.",
        *("", "| moment | SIGKILL | SIGTERM |", "| --- | ---: | ---: |"),
        *(f"| {doing} | {tally.kills['SIGKILL', doing]} | {tally.kills['SIGTERM', doing]} |" for doing in MOMENTS),
        *("", "| runs | completed | signals |", "| --- | ---: | ---: |"),
        *(f"| {mode} | {count} | {tally.kills_of_mode[mode]} |" for mode, count in tally.runs_of_mode.items()),
        *(f"- differs: {difference}" for difference in tally.differences),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--write", type=Path, help="document whose report is replaced")
    flags = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"

    with tempfile.TemporaryDirectory() as folder:
        tally = chaos(Path(folder), flags.kills, flags.seed, flags.modes.split(","))
    text = report(tally, flags.seed)
    print(text)
    if flags.write:  # only after all runs, because their records say whether a file of the checkout was changed
        write_between(flags.write, "chaos", text)
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
