"""The command that looks after checkpoints: `python -m mixup_jax.checkpoints WORKDIR ...`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.errors import InputError
from mixup_jax.escapes import one_line, print_line
from mixup_jax.progress import plain_name

if TYPE_CHECKING:
    from mixup_jax.store.verify import Stored

EXIT_DAMAGED = 1
LONGEST_LINE = 400

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
        print_line(folder)
        for step in steps_in(folder):
            try:
                stored = inspect(folder, step)
                lines, whole = describe(stored), stored.damage is None
            except InputError as error:
                lines, whole = [f"step {step} | {error}"], False
            print("\n".join(f"  {line}" for line in lines))
            damaged += not whole
    if damaged:
        print(f"{damaged} damaged", file=sys.stderr)
    return EXIT_DAMAGED if damaged else 0


def describe(stored: Stored) -> list[str]:
    """Returns lines that tell what a checkpoint holds: its place in the run, its state, scores and config.

    The facts may be anyone's, of any type: what cannot be told is left out, and the rest is escaped.
    """
    facts = stored.facts
    if stored.damage is not None:
        state = f"DAMAGED: {stored.damage}"
    else:
        state = "checksums right" if stored.verified else "readable, saved by a version without checksums"
    lines = [f"step {stored.step}{_epoch(stored)} | {stored.size / 1e6:.1f} MB | {state}"]
    if facts:
        scores = [f"{plain_name(name)} {_shown(value)}" for name, value in _group(facts, "scores").items()]
        lines.append(f"  {' | '.join(scores) or 'scores are not known: saved within an epoch, or by an older version'}")
        config = _group(facts, "config")
        lines.append(f"  {_config(config)}" if config else "  without a config")
    return [one_line(line[:LONGEST_LINE]) for line in lines]


def _group(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    group = values.get(key)
    return group if isinstance(group, dict) else {}


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _epoch(stored: Stored) -> str:
    epochs, total = _group(stored.facts, "config").get("epochs"), stored.facts.get("total_steps")
    if not (isinstance(epochs, int) and isinstance(total, int) and epochs > 0 and total > 0):
        return ""
    return f" (epoch {stored.step * epochs / total:.4g} of {epochs})"


def _config(config: Mapping[str, Any]) -> str:
    model, data, method = (_group(config, name) for name in ("model", "data", "method"))
    return (
        f"{config.get('experiment') or 'unnamed'}, seed {config.get('seed')}: {model.get('name')} width "
        f"{model.get('width')} on {data.get('name')}, batch {config.get('batch_size')}, mixup alpha "
        f"{method.get('mixup_alpha')}, label smoothing {method.get('label_smoothing')}, entropy weight "
        f"{method.get('entropy_weight')}"
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
