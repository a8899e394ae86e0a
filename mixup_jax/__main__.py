"""`python -m mixup_jax`: names the commands."""

import sys
from collections.abc import Sequence

from mixup_jax import __version__
from mixup_jax.command import run_command
from mixup_jax.errors import unknown_name
from mixup_jax.escapes import print_line

COMMANDS = {
    "data": "prepares data sets, checks them and describes them",
    "main": "trains a network",
    "evaluate": "judges a checkpoint, or anyone's logits",
    "report": "writes one page about evaluated runs",
    "compare": "writes one page about anyone's networks, paired",
    "predict": "applies a trained network to images",
    "export": "writes a trained network for use elsewhere",
    "sweep": "runs a grid of configs",
    "checkpoints": "lists and verifies checkpoints",
    "compile_ahead": "compiles a config's steps for machines that are not here",
    "report.evidence": "writes the tables of documents from records of runs",
}


def main(arguments: Sequence[str]) -> int:
    """Prints the commands; returns 0; InputError if anything but --help or --version was asked for."""
    print_line(f"mixup_jax {__version__}")
    for name, duty in COMMANDS.items():
        print_line(f"  python -m mixup_jax.{name:<16} {duty}")
    print_line("Each has --help, with examples.")
    for argument in arguments:
        if argument not in ("-h", "--help", "--version"):
            raise unknown_name("command", argument, COMMANDS)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
