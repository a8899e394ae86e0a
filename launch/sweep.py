"""Runs a grid on a Ray cluster, or on this machine as a cluster of one: `python launch/sweep.py --help`."""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mixup_jax.command import EXIT_BAD_INPUT, run_command
from mixup_jax.errors import InputError
from mixup_jax.grid import PlannedRun, commands, start, tell_progress
from mixup_jax.sweep import grid_parser, run_grid

DESCRIPTION = """\
Train and evaluate every run of a grid through Ray, one task for each run, in a folder DIR/NAME with its log.txt.

A run whose process, worker or machine dies, or that was interrupted (exit code 75), is tried again wherever
there is room, and continues from its last checkpoint. One that was given something wrong (exit code 2) is not
tried again, and stops no other. Run it again for what is left: finished runs are skipped. The exit code is 1 if
a run failed.
"""

EXAMPLES = """\
examples:
  python launch/sweep.py --grid=configs/grids/fashion_mnist.py --output=runs/fashion_mnist --dry-run
  python launch/sweep.py --grid=configs/grids/fashion_mnist.py --output=runs/fashion_mnist --gpus=1
  python launch/sweep.py --grid=configs/grids/fashion_mnist.py --output=/shared/runs --tpus=4 --address=auto

Every machine of the cluster needs the same Python environment, and sees this folder, DIR and the data under the
same paths. On the CPU cores of one machine `python -m mixup_jax.sweep --jobs=N` does more: it shares them out.
"""


class Unfinished(Exception):  # noqa: N818, since it may be no error
    """A command of a run ended before the run did, and may be tried again."""


class Refused(Exception):  # noqa: N818, the command has said what is wrong
    """A command of a run was given something that is wrong, as it will be the next time."""


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code."""
    parser = grid_parser("python launch/sweep.py", DESCRIPTION, EXAMPLES)
    parser.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster, or auto; without it, one starts here")
    parser.add_argument("--cpus", type=float, default=1, metavar="N", help="CPU cores of each run (default: 1)")
    parser.add_argument("--gpus", type=float, default=0, metavar="N", help="GPUs of each run (default: 0)")
    parser.add_argument("--tpus", type=int, default=0, metavar="N", help="TPU chips of each run (default: 0)")
    parser.add_argument("--retries", type=int, default=3, metavar="N", help="further attempts of a run (default: 3)")
    arguments = parser.parse_args(argv)
    for name in ("cpus", "gpus", "tpus", "retries"):
        if (number := getattr(arguments, name)) < 0:
            raise InputError(f"--{name} is {number:g}; expected at least 0")
    return run_grid(arguments, lambda runs: run_all(runs, arguments))


def run_all(runs: Sequence[PlannedRun], arguments: argparse.Namespace) -> list[str]:
    """Trains and evaluates runs, as many at a time as the cluster has room for; returns the names of those that failed.

    Stopped from outside, it stops the runs in order and waits until they have saved.

    Raises:
      InputError: Ray is not installed, or this machine has not what one run needs.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("Python package ray is not installed; expected it: pip install -e '.[ray]'") from error
    # The output of the workers is in each run's log.txt; other messages, such as those of TPU drivers, are too many.
    ray.init(arguments.address or "local", include_dashboard=False, log_to_driver=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own handler would not wait for runs to save
    try:
        needs = {"CPU": arguments.cpus, "GPU": arguments.gpus, "TPU": arguments.tpus}
        _check_room(needs, ray.cluster_resources(), may_grow=bool(arguments.address))
        task = ray.remote(train_and_evaluate).options(
            num_cpus=arguments.cpus,
            num_gpus=arguments.gpus,
            resources={"TPU": arguments.tpus} if arguments.tpus else None,
            max_retries=arguments.retries,
            retry_exceptions=[Unfinished],
        )
        tasks = {}
        for run in runs:
            steps = commands(run, arguments.output, arguments.data_dir)
            tasks[task.remote(steps, arguments.output / run.name, Path.cwd())] = run.name
        return tell_progress(_outcomes(ray, tasks), len(runs))
    finally:
        ray.shutdown()


def train_and_evaluate(steps: Sequence[Sequence[str]], workdir: Path, folder: Path) -> None:
    """Runs the commands of a run one after another, in a worker of the cluster.

    Their output goes to `workdir`; the grid's relative paths begin in `folder`.

    Raises:
      Refused: a command was given something that is wrong.
      Unfinished: it ended otherwise than with 0.
    """
    with contextlib.chdir(folder):
        for step in steps:
            code = _wait(start(_bound_to_us(step), workdir))
            if code == EXIT_BAD_INPUT:
                raise Refused(f"exit code {code}: {workdir / 'log.txt'} says what is wrong")
            if code:
                raise Unfinished(f"exit code {code}; see {workdir / 'log.txt'}")


def _bound_to_us(command: Sequence[str]) -> list[str]:
    """Returns a command that ends when this process does, however that ends.

    Ray sees to it when a worker is killed, but not when its own process on the machine, the raylet, is. The run would
    go on and keep its folder, and the attempt that Ray makes elsewhere would be refused.
    """
    setpriv = shutil.which("setpriv")  # of util-linux; elsewhere than on Linux nothing has this service
    return [*([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []), *command]


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Returns the exit code of a process; when this task is cancelled, after the process has saved and ended."""
    try:
        while True:
            # With a time limit Python checks for signals repeatedly; without one, Ray's cancellation would wait.
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=3600)
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _outcomes(ray: Any, tasks: dict[Any, str]) -> Iterator[tuple[str, bool]]:
    """Yields the name of each run and whether it succeeded, when it ends."""
    waiting = list(tasks)
    try:
        while waiting:
            (ended,), waiting = ray.wait(waiting)
            try:
                ray.get(ended)
            except ray.exceptions.RayError as error:
                print(f"{tasks[ended]}: {error.cause if hasattr(error, 'cause') else error}", file=sys.stderr)
                yield tasks[ended], False
            else:
                yield tasks[ended], True
    except BaseException:
        for task in waiting:
            ray.cancel(task)
        ray.wait(waiting, num_returns=len(waiting))
        raise


def _check_room(needs: Mapping[str, float], room: Mapping[str, float], *, may_grow: bool) -> None:
    """Checks that one run fits, and mentions accelerators that none would use."""
    for name, number in needs.items():
        if number > room.get(name, 0) and not may_grow:
            raise InputError(
                f"--{name.lower()}s is {number:g}, but this machine has {room.get(name, 0):g}; expected at most that, "
                "or the --address of a cluster"
            )
    for name in ("GPU", "TPU"):
        if room.get(name) and not (needs["GPU"] or needs["TPU"]):
            print(f"the runs will use none of {room[name]:g} {name}s; --{name.lower()}s=N gives each N of them")


if __name__ == "__main__":
    sys.exit(run_command(main))
