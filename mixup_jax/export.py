"""The command that writes a network for use elsewhere: `python -m mixup_jax.export --workdir=RUN`."""

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.escapes import print_line

DESCRIPTION = """\
Write the network of an evaluated run as files that need neither this package nor the run:

  network.stablehlo  for jax.export.deserialize: StableHLO with the weights inside, for CPU, CUDA, ROCm and TPU
  network.json       names of the classes, shape of the input, temperature, origin
  saved_model/       for TensorFlow and its servers, where TensorFlow is installed

Input: images uint8 [B, H, W, C] of any number, resized as docs/serving.md says; they are standardised inside. Outputs:
logits, calibrated probabilities, and "unlike" (see python -m mixup_jax.predict --help).
"""

EXAMPLES = """\
examples:
  python -m mixup_jax.export --workdir=runs/own
  python -m mixup_jax.export --workdir=runs/own --checkpoint=best --output=deployed
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code."""
    parser = CommandParser(prog="python -m mixup_jax.export", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--workdir", required=True, type=path, metavar="DIR", help="folder of an evaluated run")
    parser.add_argument("--output", type=path, metavar="DIR", help="folder to write; default: WORKDIR/export")
    parser.add_argument("--checkpoint", default="last", metavar="last|best|STEP", help="which one; default: last")
    arguments = parser.parse_args(argv)
    output = arguments.output or arguments.workdir / "export"

    # Imported here, so that --help and a mistyped flag need not wait for jax, which takes seconds.
    from mixup_jax.prediction.served import open_served, write_artefacts
    from mixup_jax.runs.workdir import require_writable

    served = open_served(arguments.workdir, arguments.checkpoint, portable=True)
    require_writable(output)
    written = write_artefacts(served, output, print_line)
    print_line(f"written: {', '.join(map(str, written))}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
