"""The command that compiles ahead: `python -m mixup_jax.compile_ahead --config=FILE[:VARIANT] --topology=NAME`."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.errors import InputError, not_a_file, unknown_name
from mixup_jax.escapes import print_line
from mixup_jax.methods.method import listed

STEPS = ("train", "eval")
DESCRIPTION = """\
Compile a config's training step and prediction for devices that need not be there, and say what they need: memory,
FLOPs, bytes, collectives, the time that the compiler and a roofline expect, and what is wrong. No data is read.

A TPU slice is compiled for by libtpu (pip install -e '.[tpu]'), cpu:N on N virtual devices of this machine; for
cuda:N the steps are exported, and what needs a GPU's compiler is left out. A ResNet-50 takes minutes.
"""
EXAMPLES = f"""\
examples:
  python -m mixup_jax.compile_ahead --config=configs/imagenet.py --topology=v5e:4x4 --output=v5e-4x4.json
  python -m mixup_jax.compile_ahead --config=configs/imagenet.py:erm --topology=v4:2x2x4 --steps=train
  python -m mixup_jax.compile_ahead --config=configs/quickstart.py --topology=cpu:8 --config.batch_size=256

Every setting can be given as --config.KEY=VALUE, as to mixup_jax.main. docs/scaling.md says what the numbers mean.
The variants of a config are the methods:

{listed()}
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code; warnings change it only with --strict."""
    parser = CommandParser(prog="python -m mixup_jax.compile_ahead", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="config file, and which of its variants"
    )
    parser.add_argument(
        "--topology", required=True, metavar="NAME", help="cpu:N, cuda:N or a TPU slice such as v5e:4x4"
    )
    parser.add_argument("--steps", default=",".join(STEPS), metavar="NAMES", help="train, eval, or both (the default)")
    parser.add_argument("--output", type=path, metavar="FILE.json", help="write what is printed, and more, as JSON")
    parser.add_argument(
        "--examples", type=int, default=50_000, metavar="N", help="of a data set that is held on the devices"
    )
    parser.add_argument("--vocabulary", type=int, default=30_000, metavar="N", help="words of a text's vocabulary")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 if a step does not fit, or computes more than 1.3 times what the network asks for",
    )
    arguments, overrides = parser.parse_known_args(argv)
    steps = _steps(arguments.steps)
    _check(arguments.examples, arguments.vocabulary, arguments.output)

    from mixup_jax.config_file import load_config
    from mixup_jax.environment import check_versions

    check_versions()
    config = load_config(arguments.config, overrides)

    from mixup_jax.ahead.compile import Shapes, compile_ahead
    from mixup_jax.ahead.record import render, wasteful
    from mixup_jax.ahead.topology import set_up

    set_up(arguments.topology)
    shapes = Shapes(config.data.train_examples or arguments.examples, arguments.vocabulary)
    report = partial(print_line, file=sys.stderr)
    record = compile_ahead(config, arguments.topology, steps, shapes, report)
    print(render(record))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    bad = any(step["fits"] is False or wasteful(step) for step in record["steps"].values())
    return int(arguments.strict and bad)


def _steps(names: str) -> tuple[str, ...]:
    chosen = names.split(",")
    for name in chosen:
        if name not in STEPS:
            raise unknown_name("step", name, STEPS)
    return tuple(step for step in STEPS if step in chosen)


def _check(examples: int, vocabulary: int, output: Path | None) -> None:
    for flag, value in (("examples", examples), ("vocabulary", vocabulary)):
        if value < 1:
            raise InputError(f"--{flag} is {value}; expected at least 1")
    if output is not None and output.exists() and not output.is_file():
        raise InputError(f"--output={output} {not_a_file(output)}; expected a file, or a new name for one")
    if output is not None and (output.suffix != ".json" or not output.parent.is_dir()):
        raise InputError(f"--output is {output}; expected a name that ends in .json, in a folder that exists")


if __name__ == "__main__":
    sys.exit(run_command(main))
