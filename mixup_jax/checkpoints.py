"""The command that looks after checkpoints: `python -m mixup_jax.checkpoints WORKDIR ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.errors import InputError
from mixup_jax.escapes import one_line

if TYPE_CHECKING:
    from mixup_jax.store.verify import Stored

EXIT_DAMAGED = 1

DESCRIPTION = """\
List the checkpoints of runs, read each from end to end, and compare it with its checksums.

The exit code is 0 if all are whole, 1 if one is damaged, 2 if there are none. Nothing is changed.
"""

EXAMPLES = """\
examples:
  python -m mixup_jax.checkpoints runs/fm-mixup-0
  python -m mixup_jax.checkpoints runs/*

What a damaged one means: training goes on from the newest that is whole, and keeps the damaged one as
checkpoints/damaged-STEP; evaluate does the same for --checkpoint=last, and refuses a damaged one asked for by name.
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code."""
    parser = CommandParser(prog="python -m mixup_jax.checkpoints", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("workdirs", nargs="+", type=path, metavar="WORKDIR", help="folder of a run")
    workdirs = parser.parse_args(argv).workdirs

    # Imported here, so that --help and a mistyped flag need not wait for jax, which takes seconds.
    from mixup_jax.runs.workdir import CHECKPOINTS
    from mixup_jax.store.verify import inspect, steps_in

    folders = [workdir / CHECKPOINTS for workdir in workdirs]
    for folder in folders:
        if not steps_in(folder):
            raise InputError(f"{folder} holds no checkpoint; expected a folder that `python -m mixup_jax.main` made")
    damaged = 0
    for folder in folders:
        print(folder)
        for step in steps_in(folder):
            try:
                stored = inspect(folder, step)
                lines, whole = describe(stored), stored.damage is None
            except InputError as error:
                lines, whole = [f"step {step} | {error}"], False
            print("\n".join(f"  {one_line(line)}" for line in lines))
            damaged += not whole
    if damaged:
        print(f"{damaged} damaged", file=sys.stderr)
    return EXIT_DAMAGED if damaged else 0


def describe(stored: Stored) -> list[str]:
    """Returns lines that tell what a checkpoint holds: place in the run, state, scores and config."""
    facts = stored.facts
    if stored.damage is not None:
        state = f"DAMAGED: {stored.damage}"
    else:
        state = "checksums right" if stored.verified else "readable, saved by a version without checksums"
    lines = [f"step {stored.step}{_epoch(stored)} | {stored.size / 1e6:.1f} MB | {state}"]
    if not facts:
        return lines
    scores = " | ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in facts.get("scores", {}).items())
    lines.append(f"  {scores or 'scores are not known: saved within an epoch, or by an older version'}")
    return [*lines, f"  {_config(facts['config'])}" if isinstance(facts.get("config"), dict) else "  without a config"]


def _epoch(stored: Stored) -> str:
    epochs, total = stored.facts.get("config", {}).get("epochs"), stored.facts.get("total_steps")
    if not isinstance(epochs, int) or not epochs or not total:
        return ""
    return f" (epoch {stored.step * epochs / total:.4g} of {epochs})"


def _config(config: dict[str, Any]) -> str:
    """Returns the settings by which runs are told apart, of a config that anyone may have written."""
    groups = (config.get(name) for name in ("model", "data", "method"))
    model, data, method = (group if isinstance(group, dict) else {} for group in groups)
    return (
        f"{config.get('experiment') or 'unnamed'}, seed {config.get('seed')}: {model.get('name')} width "
        f"{model.get('width')} on {data.get('name')}, batch {config.get('batch_size')}, mixup alpha "
        f"{method.get('mixup_alpha')}, label smoothing {method.get('label_smoothing')}, entropy weight "
        f"{method.get('entropy_weight')}"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
