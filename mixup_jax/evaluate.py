"""The command that judges a network: `python -m mixup_jax.evaluate`.

With `--predictions` it reads logits that any framework wrote, and loads neither jax nor TensorFlow;
with `--workdir` it restores a checkpoint of this package first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixup_jax.command import CommandParser, run_command
from mixup_jax.errors import InputError
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.evaluation.table import format_table
from mixup_jax.records import Predictions, load_predictions, write_json

_EXAMPLES = """\
examples:
  # Anybody's logits [N, K] and labels [N], saved with numpy.savez("preds.npz", logits=..., labels=...):
  python -m mixup_jax.evaluate --predictions=preds.npz
  # With a temperature fitted on validation data, and two out-of-distribution sets:
  python -m mixup_jax.evaluate --predictions=test.npz --validation=val.npz --ood=mnist.npz --ood=noise.npz
  # A run of mixup_jax.main, from its checkpoint alone:
  python -m mixup_jax.evaluate --workdir=runs/fm-mixup-0 --datasets=test,mnist,gaussian_noise --checkpoint=best

All numbers are fractions, never percent; docs/metrics.md defines them.
"""
_PREDICTIONS_FLAGS = ("validation", "ood", "output")
_WORKDIR_FLAGS = ("datasets", "checkpoint", "data_dir", "force")


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments and returns its exit code, 0.

    Raises:
      InputError: the flags contradict each other, or name something that cannot be read or written.
    """
    flags = _parser().parse_args(argv)
    if (flags.predictions is None) == (flags.workdir is None):
        given = "both" if flags.predictions is not None else "neither"
        raise InputError(f"{given} of --predictions and --workdir given; expected exactly one of them")
    if flags.predictions is not None:
        _refuse(flags, _WORKDIR_FLAGS, "--workdir")
        _evaluate_predictions(flags)
    else:
        _refuse(flags, _PREDICTIONS_FLAGS, "--predictions")
        _evaluate_workdir(flags)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m mixup_jax.evaluate",
        description="Measures accuracy, calibration and out-of-distribution detection.",
        epilog=_EXAMPLES,
    )
    records = parser.add_argument_group("from a file of predictions (starts at once; needs no accelerator)")
    records.add_argument("--predictions", type=Path, metavar="P.npz", help="test record: logits [N, K] and labels [N]")
    records.add_argument("--validation", type=Path, metavar="V.npz", help="held-out record to fit a temperature on")
    records.add_argument(
        "--ood", type=Path, metavar="O.npz", action="append", help="out-of-distribution record; may be repeated"
    )
    records.add_argument("--output", type=Path, metavar="FILE", help="where to write; default: P.evaluation.json")
    run = parser.add_argument_group("from a run's checkpoint")
    run.add_argument("--workdir", type=Path, metavar="DIR", help="folder of the run; evaluation.json is written there")
    run.add_argument(
        "--datasets", metavar="A,B", help="such as test,validation,mnist,gaussian_noise; default: those of the config"
    )
    run.add_argument("--checkpoint", metavar="last|best|STEP", help="which checkpoint; default: last")
    run.add_argument("--data_dir", type=Path, metavar="DIR", help="where the prepared data sets are")
    run.add_argument("--force", action="store_true", default=None, help="predict again even where records exist")
    return parser


def _refuse(flags: argparse.Namespace, names: Sequence[str], owner: str) -> None:
    for name in names:
        if getattr(flags, name) is not None:
            raise InputError(f"--{name} given without {owner}; it belongs to {owner} only")


def _evaluate_predictions(flags: argparse.Namespace) -> None:
    inputs = [path for path in (flags.predictions, flags.validation, *(flags.ood or [])) if path is not None]
    output = flags.output or _beside(flags.predictions)
    if output.resolve() in [path.resolve() for path in inputs]:
        raise InputError(f"--output={output} is one of the records to read; expected another file")
    if flags.validation is not None and flags.validation.resolve() == flags.predictions.resolve():
        raise InputError(
            f"--validation={flags.validation} is the test record itself; "
            "expected other data, since a temperature fitted on the test set would flatter it"
        )
    test = load_predictions(flags.predictions)
    validation = None if flags.validation is None else load_predictions(flags.validation)
    test_name, validation_name = flags.predictions.stem, "validation" if validation is None else flags.validation.stem
    document = evaluate_records(
        test,
        validation=validation,
        ood=_named([(path, load_predictions(path)) for path in flags.ood or []]),
        test_name=test_name,
        validation_name=validation_name if validation_name != test_name else f"{validation_name} (validation)",
    )
    _write(output, document)
    print(format_table(document))
    if validation is None:
        print("\nNo temperature was fitted: that takes held-out data (--validation=V.npz), never the test record.")
    print(f"\nwritten: {output}")


def _evaluate_workdir(flags: argparse.Namespace) -> None:
    checkpoint = "last" if flags.checkpoint is None else flags.checkpoint
    if checkpoint not in ("last", "best") and not (checkpoint.isascii() and checkpoint.isdigit()):
        raise InputError(f"--checkpoint={checkpoint} is no checkpoint; expected last, best or a step such as 1200")
    if not flags.workdir.is_dir():
        raise InputError(f"--workdir={flags.workdir} is not a folder; expected the workdir of a finished run")
    datasets = None if flags.datasets is None else _comma_separated("--datasets", flags.datasets)
    # Here, not above: it loads jax, which --predictions has no use for.
    from mixup_jax.evaluation.run import evaluate_workdir

    document = evaluate_workdir(
        flags.workdir, datasets=datasets, checkpoint=checkpoint, data_dir=flags.data_dir, force=bool(flags.force)
    )
    print(format_table(document))
    print(f"\nwritten: {flags.workdir / 'evaluation.json'}")


def _comma_separated(flag: str, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if "" in names:
        raise InputError(f"{flag}={text!r} holds an empty name; expected names with commas between, such as test,mnist")
    return names


def _beside(path: Path) -> Path:
    """Returns `P.evaluation.json` for `P.npz`."""
    return path.with_name(path.name.removesuffix(".npz") + ".evaluation.json")


def _named(records: Sequence[tuple[Path, Predictions]]) -> dict[str, Predictions]:
    """Returns the records by their data set, or else by their file, numbered where names repeat."""
    named: dict[str, Predictions] = {}
    for path, record in records:
        name = base = str(record.meta.get("dataset") or path.stem)
        number = 1
        while name in named:
            number += 1
            name = f"{base}-{number}"
        named[name] = record
    return named


def _write(output: Path, document: dict[str, Any]) -> None:
    try:
        write_json(output, document)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{output} cannot be written ({reason}); expected a writable file, see --output") from error


if __name__ == "__main__":
    sys.exit(run_command(main))
