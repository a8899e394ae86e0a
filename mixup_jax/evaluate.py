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
from mixup_jax.devices.cluster import FLAGS, add_flags, requested
from mixup_jax.errors import InputError
from mixup_jax.escapes import one_line
from mixup_jax.evaluation.ensemble import mean_of_records
from mixup_jax.evaluation.export import check_suffix, format_table, render
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.evaluation.recalibration import POSTHOC, check_posthoc
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, GIB
from mixup_jax.runs.files import write_atomically
from mixup_jax.runs.formats import look_like_probabilities, read_predictions
from mixup_jax.runs.records import Predictions

_EXAMPLES = """\
examples:
  # Anybody's logits [N, K] and labels [N], saved with numpy.savez("preds.npz", logits=..., labels=...):
  python -m mixup_jax.evaluate --predictions=preds.npz
  # With a temperature fitted on validation data, and two out-of-distribution sets:
  python -m mixup_jax.evaluate --predictions=test.npz --validation=val.npz --ood=mnist.npz --ood=noise.npz
  # Logits larger than memory (an .npy is memory-mapped), and results for a paper as well:
  python -m mixup_jax.evaluate --predictions=logits.npy --labels=labels.npy --output=e.json --output=e.tex
  # Probabilities in a table with the columns label, 0, 1, ..; two more calibration methods:
  python -m mixup_jax.evaluate --predictions=p.csv --validation=v.csv --probabilities --posthoc=vector_scaling,isotonic
  # An ensemble: the mean of the probabilities of files with commas between
  python -m mixup_jax.evaluate --predictions=a.npz,b.npz,c.npz --ood=a-ood.npz,b-ood.npz,c-ood.npz
  # A run of mixup_jax.main, from its checkpoint alone:
  python -m mixup_jax.evaluate --workdir=runs/fm-mixup-0 --datasets=test,mnist,gaussian_noise --checkpoint=best
  # The same network predicting in another way, kept as a run of its own that the report can read:
  python -m mixup_jax.evaluate --workdir=runs/fm-dropout-0 --mc_dropout=10 --save_as=runs/fm-dropout-0+mc10
  python -m mixup_jax.evaluate --workdir=runs/fm-mixup-0 --batch_norm_examples=5000 --save_as=runs/fm-mixup-0+bn5000
  # A deep ensemble of evaluated runs:
  python -m mixup_jax.evaluate --ensemble=runs/fm-mixup-0,runs/fm-mixup-1 --save_as=runs/fm-mixup-ensemble

All numbers are fractions, never percent; docs/metrics.md defines them.
"""
_SOURCES = ("predictions", "workdir", "ensemble")
_PREDICTIONS_FLAGS = (
    "labels",
    "validation",
    "validation_labels",
    "ood",
    "output",
    "probabilities",
    "all_intervals",
    "posthoc",
    "max_gib",
)
_ALONE_FLAGS = ("odin", "batch_norm_examples")
_WORKDIR_FLAGS = (
    "datasets",
    "checkpoint",
    "data_dir",
    "force",
    "mc_dropout",
    *_ALONE_FLAGS,
    "distributed",
    *FLAGS,
)


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments and returns its exit code, 0.

    Raises:
      InputError: the flags contradict each other, or name something that cannot be read or written.
    """
    flags = _parser().parse_args(argv)
    given = [name for name in _SOURCES if getattr(flags, name) is not None]
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none of them"
        raise InputError(f"expected exactly one of {', '.join(f'--{name}' for name in _SOURCES)}; found {found}")
    if flags.workdir is None:
        _refuse(flags, _WORKDIR_FLAGS, "--workdir")
    if flags.predictions is None:
        _refuse(flags, _PREDICTIONS_FLAGS, "--predictions")
    if flags.predictions is not None:
        _refuse(flags, ("save_as",), "--workdir or --ensemble")
        _evaluate_predictions(flags)
    elif flags.workdir is not None:
        _evaluate_workdir(flags)
    else:
        _evaluate_ensemble(flags)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m mixup_jax.evaluate",
        description="Measures accuracy, calibration and out-of-distribution detection.",
        epilog=_EXAMPLES,
    )
    records = parser.add_argument_group("from files of predictions (starts at once; needs no accelerator)")
    records.add_argument(
        "--predictions", metavar="P[,P2]", help="test record: .npz, .npy, .csv, .parquet or .pt; several: an ensemble"
    )
    records.add_argument("--labels", type=Path, metavar="L.npy", help="labels [N] of --predictions=P.npy")
    records.add_argument("--validation", metavar="V[,V2]", help="held-out record to fit a temperature on")
    records.add_argument("--validation_labels", type=Path, metavar="L.npy", help="labels [N] of --validation=V.npy")
    records.add_argument(
        "--ood",
        metavar="O[,O2]",
        action="append",
        help="out-of-distribution record, labels not needed; may be repeated",
    )
    records.add_argument(
        "--probabilities", action="store_true", default=None, help="the files hold probabilities, not logits"
    )
    records.add_argument(
        "--all_intervals",
        action="store_true",
        default=None,
        help="bootstrap adaptive, smooth and class-wise ECE as well (seconds more)",
    )
    records.add_argument("--posthoc", metavar="A,B", help=f"also fit on --validation: {', '.join(POSTHOC)}")
    records.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        action="append",
        help="where to write: .json, .md, .tex or .csv; may be repeated; default: P.evaluation.json",
    )
    records.add_argument(
        "--max_gib",
        type=float,
        metavar="X",
        help=f"most memory a file may unfold to, but for .npy; default: {DEFAULT_LIMIT / GIB:g}",
    )
    run = parser.add_argument_group("from a run's checkpoint")
    run.add_argument("--workdir", type=Path, metavar="DIR", help="folder of the run; evaluation.json is written there")
    run.add_argument(
        "--datasets", metavar="A,B", help="such as test,validation,mnist,gaussian_noise; default: those of the config"
    )
    run.add_argument("--checkpoint", metavar="last|best|STEP", help="which checkpoint; default: last")
    run.add_argument("--data_dir", type=Path, metavar="DIR", help="where the prepared data sets are")
    run.add_argument("--odin", action="store_true", default=None, help="also score with ODIN (takes gradients)")
    run.add_argument("--force", action="store_true", default=None, help="predict again even where records exist")
    add_flags(parser)
    derived = parser.add_argument_group("as another run (a folder of records that the report reads like any other)")
    derived.add_argument("--save_as", type=Path, metavar="DIR", help="the folder to write; needed by the three below")
    derived.add_argument("--mc_dropout", type=int, metavar="T", help="mean of the probabilities of T dropout passes")
    derived.add_argument(
        "--batch_norm_examples",
        type=int,
        metavar="N",
        help="measure batch statistics anew on N clean training examples",
    )
    derived.add_argument("--ensemble", metavar="A,B", help="mean of the probabilities of these evaluated run folders")
    return parser


def _refuse(flags: argparse.Namespace, names: Sequence[str], owner: str) -> None:
    for name in names:
        if getattr(flags, name) is not None:
            raise InputError(f"--{name} given without {owner}; expected it with {owner} only")


def _evaluate_predictions(flags: argparse.Namespace) -> None:
    tested = _paths("--predictions", flags.predictions)
    held_out = [] if flags.validation is None else _paths("--validation", flags.validation)
    foreign = [_paths("--ood", text) for text in flags.ood or []]
    outputs = flags.output or [_beside(tested)]
    labels = [path for path in (flags.labels, flags.validation_labels) if path is not None]
    _check_outputs(outputs, [*tested, *held_out, *labels, *(path for paths in foreign for path in paths)])
    shared = {path.resolve() for path in held_out} & {path.resolve() for path in tested}
    if shared:
        raise InputError(
            f"--validation={flags.validation} is the test record itself; "
            "expected other data, since a temperature fitted on the test set would flatter it"
        )
    if flags.validation_labels is not None and not held_out:
        raise InputError("--validation_labels given without --validation; expected both")
    posthoc = () if flags.posthoc is None else _comma_separated("--posthoc", flags.posthoc)
    check_posthoc(posthoc)
    if posthoc and not held_out:
        raise InputError(f"--posthoc={flags.posthoc} given without --validation; expected held-out data to fit it on")

    test = _record(tested, flags, flags.labels)
    validation = _record(held_out, flags, flags.validation_labels) if held_out else None
    test_name, validation_name = _name(tested), _name(held_out) if held_out else "validation"
    document = evaluate_records(
        test,
        validation=validation,
        ood=_named([(_name(paths), _record(paths, flags, None, labelled=False)) for paths in foreign]),
        test_name=test_name,
        validation_name=validation_name if validation_name != test_name else f"{validation_name} (validation)",
        posthoc=posthoc,
        all_intervals=bool(flags.all_intervals),
    )
    for output in outputs:
        _write(output, document)
    print(format_table(document))
    if validation is None:
        print("\nNo temperature was fitted: that takes held-out data (--validation=V.npz), never the test record.")
    if not flags.probabilities and look_like_probabilities(test):
        print("\nThe rows look like probabilities but were taken for logits; --probabilities says they are.")
    print(f"\nwritten: {', '.join(map(str, outputs))}")


def _paths(flag: str, text: str) -> list[Path]:
    return [Path(name) for name in _comma_separated(flag, text)]


def _record(
    paths: Sequence[Path], flags: argparse.Namespace, labels: Path | None, *, labelled: bool = True
) -> Predictions:
    """Returns the record of one file, or the mean of those of several."""
    limit = DEFAULT_LIMIT if flags.max_gib is None else flags.max_gib * GIB
    if not 0 < limit < float("inf"):
        raise InputError(f"--max_gib={flags.max_gib} is not a size; expected a number above 0, such as 8")
    members = [
        read_predictions(
            path, labels=labels, probabilities=bool(flags.probabilities), labelled=labelled, limit=int(limit)
        )
        for path in paths
    ]
    return members[0] if len(members) == 1 else mean_of_records(members)


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    for output in outputs:
        if output.resolve() in [path.resolve() for path in inputs]:
            raise InputError(f"--output={output} is one of the records to read; expected another file")
        check_suffix(output)


def _evaluate_workdir(flags: argparse.Namespace) -> None:
    checkpoint = "last" if flags.checkpoint is None else flags.checkpoint
    if checkpoint not in ("last", "best") and not (checkpoint.isascii() and checkpoint.isdigit()):
        raise InputError(f"--checkpoint={checkpoint} is not a checkpoint; expected last, best or a step such as 1200")
    if not flags.workdir.is_dir():
        raise InputError(f"--workdir={flags.workdir} is not a folder; expected the workdir of a finished run")
    datasets = None if flags.datasets is None else _comma_separated("--datasets", flags.datasets)
    changes = {name: getattr(flags, name) for name in ("mc_dropout", "batch_norm_examples")}
    changes = {name: number for name, number in changes.items() if number is not None}
    _check_derivation(flags, changes)
    cluster = requested(flags)
    alone = [name for name in _ALONE_FLAGS if getattr(flags, name) is not None]
    if cluster is not None and alone:
        raise InputError(f"--{alone[0]} works in one process only; expected neither --distributed nor --coordinator")
    from mixup_jax.environment import check_versions
    from mixup_jax.libraries import keep_freed_memory

    check_versions()
    keep_freed_memory()
    # Here, not above: it loads jax, which --predictions has no use for.
    from mixup_jax.devices.processes import joined
    from mixup_jax.evaluation.run import evaluate_workdir
    from mixup_jax.prediction.variants import Derivation

    with joined(cluster):
        document = evaluate_workdir(
            flags.workdir,
            datasets=datasets,
            checkpoint=checkpoint,
            data_dir=flags.data_dir,
            force=bool(flags.force),
            odin=bool(flags.odin),
            derivation=Derivation(**changes),
            save_as=flags.save_as,
        )
    if document is not None:
        print(format_table(document))
        print(f"\nwritten: {(flags.save_as or flags.workdir) / 'evaluation.json'}")


def _check_derivation(flags: argparse.Namespace, changes: dict[str, int]) -> None:
    for name, number in changes.items():
        if number < 1:
            raise InputError(f"--{name}={number}; expected a positive number")
    if changes and flags.save_as is None:
        raise InputError(f"--{next(iter(changes))} given without --save_as; expected the folder of its records")
    if flags.save_as is not None and not changes:
        raise InputError(
            "--save_as given without --mc_dropout or --batch_norm_examples, which change what is predicted"
        )
    if changes and flags.odin:
        raise InputError("--odin takes gradients of the network as it was trained; expected it without --save_as")


def _evaluate_ensemble(flags: argparse.Namespace) -> None:
    if flags.save_as is None:
        raise InputError("--ensemble given without --save_as; expected the folder of its records")
    # Here, not above: it loads what configs are made of, which --predictions has no use for.
    from mixup_jax.evaluation.ensemble_run import evaluate_ensemble

    members = [Path(name) for name in _comma_separated("--ensemble", flags.ensemble)]
    print(format_table(evaluate_ensemble(members, flags.save_as)))
    print(f"\nwritten: {flags.save_as / 'evaluation.json'}")


def _comma_separated(flag: str, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if "" in names:
        raise InputError(f"{flag}={text!r} holds an empty name; expected names with commas between, such as test,mnist")
    return names


def _name(paths: Sequence[Path]) -> str:
    return one_line("+".join(path.stem for path in paths))


def _beside(paths: Sequence[Path]) -> Path:
    """Returns `P.evaluation.json` for `P.npz`, `P+P2.evaluation.json` for an ensemble."""
    return paths[0].with_name("+".join(path.stem for path in paths) + ".evaluation.json")


def _named(records: Sequence[tuple[str, Predictions]]) -> dict[str, Predictions]:
    """Returns the records by their data set, or else by their file, numbered where names repeat."""
    named: dict[str, Predictions] = {}
    for file, record in records:
        name = base = str(record.meta.get("dataset") or file)
        number = 1
        while name in named:
            number += 1
            name = f"{base}-{number}"
        named[name] = record
    return named


def _write(output: Path, document: dict[str, Any]) -> None:
    try:
        write_atomically(output, render(document, output).encode())
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{output} cannot be written ({reason}); expected a writable place with free space, see --output"
        ) from error


if __name__ == "__main__":
    sys.exit(run_command(main))
