"""A grid of runs, described once in a Python file such as those of `configs/grids`.

Such a file defines `get_grid()`, which returns a list of `PlannedRun`; `planned` makes the runs of one
config that differ in their seed, `planned_methods` those of several of its variants.  `run_all` trains and evaluates
them, several at a time, each in separate processes.
"""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from mixup_jax.config import Config
from mixup_jax.config_file import load_config
from mixup_jax.errors import InputError, not_a_file
from mixup_jax.escapes import is_file_name
from mixup_jax.progress import duration

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
"""Names that need no quoting in a shell either."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a grid.

    Attributes:
      name: of its folder: a letter or digit first, then letters, digits and . _ + - (100 at most).
      config: config file and variant, such as "configs/fashion_mnist.py:mixup".
      settings: what differs from the config, by key, such as `{"seed": 1, "method.mixup_alpha": 0.4}`.
    """

    name: str
    config: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (SAFE_NAME.fullmatch(self.name) and is_file_name(self.name)):
            raise InputError(
                f"run name {self.name!r} cannot be the name of a folder; expected letters, digits and . _ + - "
                "(100 at most, a letter or digit first)"
            )

    @property
    def overrides(self) -> list[str]:
        """The settings as arguments of the command line."""
        return [f"--config.{key}={_as_text(value)}" for key, value in self.settings.items()]


def planned(
    name: str, config: str, *, seeds: Iterable[int], settings: Mapping[str, object] | None = None
) -> list[PlannedRun]:
    """Returns one run for each seed, named `name-seed`, that are otherwise alike."""
    return [PlannedRun(f"{name}-{seed}", config, {**(settings or {}), "seed": seed}) for seed in seeds]


def planned_methods(
    config: str, methods: Sequence[str], *, network: str = "", seeds: Iterable[int] = range(3), **settings: object
) -> list[PlannedRun]:
    """Returns the runs of several methods of one config, seed by seed: an interrupted grid has whole comparisons.

    Args:
      config: config file, without a variant; its name begins those of the runs.
      methods: variants of it.
      network: `model.name`, if it differs from the config's; part of the runs' names.
      seeds: such as `range(3)`.
      **settings: what else differs from the config, with `__` for the dots of a key.
    """
    row = "_".join(filter(None, (Path(config).stem, network)))
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    changed |= {"model.name": network} if network else {}
    return [
        run
        for seed in seeds
        for method in methods
        for run in planned(
            f"{row}_{method}",
            f"{config}:{method}",
            seeds=[seed],
            settings={**changed, "experiment": f"{row}/{method}"},
        )
    ]


def load_grid(path: Path) -> list[PlannedRun]:
    """Returns the runs that a grid file describes, in its order; raises InputError if it fails or describes none."""
    if not path.is_file():
        raise InputError(f"grid file {path} {not_a_file(path)}; expected a Python file such as configs/grids/mr.py")
    spec = importlib.util.spec_from_file_location("grid_file", path)
    if spec is None or spec.loader is None:
        raise InputError(f"grid file {path} is not a Python file; expected one such as configs/grids/mr.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        runs = module.get_grid()
    except InputError:
        raise
    except Exception as error:  # anything that the file raises: it is the user's program
        reason = " ".join(str(error).split())
        raise InputError(f"grid file {path} failed with {type(error).__name__}: {reason}") from error
    return _checked(runs, path)


def _checked(runs: object, path: Path) -> list[PlannedRun]:
    if not (isinstance(runs, list) and runs and all(isinstance(run, PlannedRun) for run in runs)):
        raise InputError(f"get_grid of {path} returned {type(runs).__name__}; expected a list of PlannedRun, not empty")
    twice = [name for name, times in Counter(run.name for run in runs).items() if times > 1]
    if twice:
        raise InputError(f"grid file {path} has more than one run called {', '.join(twice)}; expected each name once")
    return runs


def _as_text(value: object) -> str:
    # As Python writes it: of several texts with commas between, a config would make one text.
    return str(tuple(value)) if isinstance(value, tuple | list) else str(value)


def config_of(run: PlannedRun) -> Config:
    """Returns the checked config of a planned run; an InputError names the run."""
    try:
        return load_config(run.config, run.overrides)
    except InputError as error:
        raise InputError(f"run {run.name}: {error}") from error


def commands(run: PlannedRun, output: Path, data_dir: Path | None) -> list[list[str]]:
    """Returns the commands that train and evaluate a run."""
    where = [f"--workdir={output / run.name}", *([f"--data_dir={data_dir}"] if data_dir else [])]
    python = [sys.executable, "-m"]
    return [
        [*python, "mixup_jax.main", f"--config={run.config}", *where, *run.overrides],
        [*python, "mixup_jax.evaluate", *where],
    ]


def run_all(runs: Sequence[PlannedRun], output: Path, data_dir: Path | None, *, jobs: int) -> list[str]:
    """Trains and evaluates runs, `jobs` at a time, with a line when one ends; returns the names of those that failed.

    If it is interrupted, it asks the runs to end and waits until they have saved.
    """
    shares: SimpleQueue[set[int]] = SimpleQueue()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for share in core_shares(cores, jobs):
        shares.put(share)
    running: set[subprocess.Popen[bytes]] = set()

    def train_and_evaluate(run: PlannedRun) -> bool:
        share = shares.get()
        try:
            return all(_call(command, output / run.name, share, running) for command in commands(run, output, data_dir))
        finally:
            shares.put(share)

    with ThreadPoolExecutor(jobs) as pool:
        names = {pool.submit(train_and_evaluate, run): run.name for run in runs}
        try:
            return tell_progress(((names[ended], ended.result()) for ended in as_completed(names)), len(runs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()
            raise


def tell_progress(outcomes: Iterable[tuple[str, bool]], total: int) -> list[str]:
    """Prints a line for each of `total` runs as it ends; returns the names of those that failed, sorted."""
    failed, began = list[str](), time.monotonic()
    for done, (name, ok) in enumerate(outcomes, start=1):
        failed += [] if ok else [name]
        remaining = (time.monotonic() - began) * (total - done) / done
        print(f"[{done}/{total}] {name}: {'done' if ok else 'FAILED'} | ETA {duration(remaining)}", flush=True)
    return sorted(failed)


def core_shares(cores: Sequence[int], jobs: int) -> list[set[int]]:
    """Returns the cores that each of `jobs` runs may use: equal shares, or all cores if there are too few."""
    each = len(cores) // jobs
    if each == 0:
        return [set(cores)] * jobs
    return [set(cores[job * each : (job + 1) * each]) for job in range(jobs)]


def start(command: Sequence[str], workdir: Path) -> subprocess.Popen[bytes]:
    """Starts a command, whose output is added to log.txt of the run's folder; returns the process."""
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _call(command: list[str], workdir: Path, cores: set[int], running: set[subprocess.Popen[bytes]]) -> bool:
    """Runs a command on some of the cores; returns whether it succeeded."""
    process = start(command, workdir)
    running.add(process)
    if cores:
        os.sched_setaffinity(process.pid, cores)
    try:
        return process.wait() == 0
    finally:
        running.discard(process)
