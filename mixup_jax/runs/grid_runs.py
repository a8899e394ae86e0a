"""Trains and evaluates the runs of a grid, several at a time, each in separate processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from mixup_jax.config import Config
from mixup_jax.config_file import load_config
from mixup_jax.errors import InputError
from mixup_jax.grid import PlannedRun
from mixup_jax.progress import duration


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
