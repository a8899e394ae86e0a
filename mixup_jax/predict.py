"""The command that applies a trained network: `python -m mixup_jax.predict --workdir=RUN IMAGES...`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.errors import InputError, not_a_file
from mixup_jax.escapes import print_line

DESCRIPTION = """\
Say for each image its class, how sure the network is of it, and how unlike the training data the image is.

The confidence and the probabilities of the five most probable classes are calibrated by the temperature that was fitted
on the run's validation examples. "unlike" is the share of these examples whose free energy is lower: 0.99 means that
99 % of them look more like the training data.

The run must be evaluated; its training data need not be there. Images are resized and standardised as in evaluation.
"""

EXAMPLES = """\
examples:
  python -m mixup_jax.predict --workdir=runs/own cat.jpg dog.png
  python -m mixup_jax.predict --workdir=runs/own holiday/ scans.npz hf:downloads/cats --output=predictions.csv
  # Logits and penultimate features, for `evaluate --ood=holiday.npz --features`:
  python -m mixup_jax.predict --workdir=runs/own holiday/ --features --output=holiday.npz
"""
TABLE, RECORD = ".csv", ".npz"
SHOWN = 5


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code.

    Raises:
      InputError: something cannot be read or written; if some images are broken, after all others are predicted.
    """
    parser = CommandParser(prog="python -m mixup_jax.predict", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders, .npz files, or own data sets")
    parser.add_argument("--workdir", required=True, type=path, metavar="DIR", help="folder of an evaluated run")
    parser.add_argument("--output", type=path, metavar="FILE", help=".csv: a table; .npz: a record of the logits")
    parser.add_argument("--features", action="store_true", help="also write the penultimate features to the .npz")
    parser.add_argument("--checkpoint", default="last", metavar="last|best|STEP", help="which one; default: last")
    parser.add_argument("--data_dir", type=path, metavar="DIR", help="where data sets of tensorflow-datasets are")
    arguments = parser.parse_args(argv)
    output: Path | None = arguments.output
    if output is not None and (output.suffix not in (TABLE, RECORD) or (output.exists() and not output.is_file())):
        reason = not_a_file(output) if output.suffix in (TABLE, RECORD) else f"ends in {output.suffix or 'nothing'}"
        raise InputError(f"--output={output} {reason}; expected a file ending in .csv or .npz")
    if arguments.features and (output is None or output.suffix != RECORD):
        raise InputError("--features given without --output=FILE.npz, to which features are written; expected both")

    # Imported here, so that --help and a mistyped flag need not wait for jax, which takes seconds.
    from mixup_jax.data.cache import default_data_dir
    from mixup_jax.data.own import given_images
    from mixup_jax.libraries import keep_freed_memory
    from mixup_jax.prediction.served import answers, open_served, record_of_images, table
    from mixup_jax.runs.files import write_atomically
    from mixup_jax.runs.records import save_predictions

    keep_freed_memory()
    given = given_images(arguments.images, arguments.data_dir or default_data_dir())
    served = open_served(arguments.workdir, arguments.checkpoint, arguments.data_dir)
    broken: list[str] = []
    if output is None:
        for one in answers(served, given, broken):
            print_line(one)
    elif output.suffix == RECORD:
        record = record_of_images(served, given, broken, features=arguments.features)
        save_predictions(output, record)
        print_line(f"{len(record.labels):,} images | written: {output}")
    else:
        rows = list(answers(served, given, broken))
        write_atomically(output, table(rows))
        print_line(f"{len(rows):,} images | written: {output}")
    if broken:
        more = f", and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise InputError(
            f"{len(broken)} of {len(given)} images cannot be read: {'; '.join(broken[:SHOWN])}{more}; expected whole "
            "images; the others are predicted"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
