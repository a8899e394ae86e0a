"""The command that runs a grid: `python -m mixup_jax.sweep --grid=FILE --output=DIR`."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.errors import InputError, not_a_folder
from mixup_jax.escapes import print_line
from mixup_jax.grid import PlannedRun, commands, config_of, load_grid, run_all
from mixup_jax.methods.method import listed
from mixup_jax.runs.workdir import is_finished

DESCRIPTION = """\
Train and evaluate every run of a grid on this machine, each in a folder DIR/NAME with its log.txt.

Run it again after an interruption, or with a longer grid: finished runs are skipped, unfinished ones continue
from their last checkpoint. A run that fails does not stop the others; the exit code is then 1.
"""

EXAMPLES = f"""\
examples:
  python -m mixup_jax.sweep --grid=configs/grids/fashion_mnist_small.py --output=runs/fashion_mnist_small --dry_run
  python -m mixup_jax.sweep --grid=configs/grids/mr.py --output=runs/mr --jobs=2
  python -m mixup_jax.report runs/mr/* --output=report

On CPUs, --jobs=N runs N at a time, each on its share of the cores. Small networks train faster side by side than
one after another on all cores. With one accelerator, leave it at 1.

A grid names configs, their variants (methods) and seeds, as configs/grids/mr.py does. The methods:

{listed()}
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code."""
    parser = grid_parser("python -m mixup_jax.sweep", DESCRIPTION, EXAMPLES)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many runs at a time (default: 1)")
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        raise InputError(f"--jobs is {arguments.jobs}; expected at least 1")
    return run_grid(arguments, lambda runs: run_all(runs, arguments.output, arguments.data_dir, jobs=arguments.jobs))


def grid_parser(prog: str, description: str, epilog: str) -> CommandParser:
    """Returns a parser of the arguments that `run_grid` reads, which all commands for grids share."""
    parser = CommandParser(prog=prog, description=description, epilog=epilog)
    parser.add_argument("--grid", required=True, type=path, metavar="FILE", help="Python file that defines get_grid()")
    parser.add_argument("--output", required=True, type=path, metavar="DIR", help="folder of the runs' folders")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="print the commands and the state of each run; run none"
    )
    parser.add_argument("--data_dir", type=path, metavar="DIR", help="where data is prepared")
    return parser


def run_grid(arguments: argparse.Namespace, run_waiting: Callable[[Sequence[PlannedRun]], list[str]]) -> int:
    """Runs the unfinished runs of a grid, or prints them; returns the exit code, 1 if a run failed.

    `arguments` are those of a `grid_parser`; `run_waiting` runs some runs and returns the names of the failed ones.
    """
    if os.path.lexists(arguments.output) and not arguments.output.is_dir():
        raise InputError(
            f"--output={arguments.output} {not_a_folder(arguments.output)}; expected a folder, or a new name"
        )
    runs = load_grid(arguments.grid)
    # Every config is read before the first run starts, so that a mistake in the last one does not cost a night.
    configs = {run.name: config_of(run) for run in runs}
    waiting = [run for run in runs if not is_finished(arguments.output / run.name, configs[run.name])]
    if arguments.dry_run:
        for run in runs:
            print(f"# {run.name}: {'to run' if run in waiting else 'finished'}")
            for command in commands(run, arguments.output, arguments.data_dir):
                print_line(shlex.join(["python", *command[1:]]))
        return 0
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} finished before", flush=True)
    failed = run_waiting(waiting)
    for name in failed:
        print_line(f"failed: {name}; see {arguments.output / name / 'log.txt'}", sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
