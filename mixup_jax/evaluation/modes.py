"""The modes of `python -m mixup_jax.evaluate`: files of predictions, a checkpoint of a run, an ensemble of runs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mixup_jax.devices.cluster import Cluster
from mixup_jax.environment import FULL, check_versions
from mixup_jax.errors import InputError, not_a_file, unknown_name
from mixup_jax.escapes import one_line
from mixup_jax.evaluation.checks import FLAGS, check_numbers
from mixup_jax.evaluation.export import check_suffix, render
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.evaluation.recalibration import check_posthoc
from mixup_jax.evaluation.scores import Scores, evaluate_scores, load_scores
from mixup_jax.libraries import keep_freed_memory
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, GIB, limit_of
from mixup_jax.runs.files import write_atomically
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions

EVALUATION_FILE = "evaluation.json"
FIGURES = (".png", ".svg", ".pdf")
Named = TypeVar("Named", Predictions, Scores)
NO_TEMPERATURE = "No temperature was fitted: that takes held-out data (--validation=V.npz), never the test record."


class Outcome(NamedTuple):
    """An evaluation (None except in the first process), the paths it was written to, and notes for the reader."""

    document: dict[str, Any] | None
    written: Sequence[Path]
    notes: Sequence[str] = ()


def evaluate_files(
    predictions: Sequence[Path],
    *,
    labels: Path | None = None,
    validation: Sequence[Path] = (),
    validation_labels: Path | None = None,
    ood: Sequence[Sequence[Path]] = (),
    output: Sequence[Path] = (),
    probabilities: bool = False,
    logits: bool = False,
    posthoc: Sequence[str] = (),
    extra: Sequence[str] = (),
    features: bool = False,
    near: Sequence[str] = (),
    all_intervals: bool = False,
    max_gib: float = DEFAULT_LIMIT / GIB,
    **keys: Any,
) -> Outcome:
    """Evaluates files of predictions and writes the results; several files for one record are an ensemble.

    `keys` are further arguments of `load_predictions`, such as `logits_key`.
    """
    limit = limit_of(max_gib)
    keep_freed_memory()
    output = output or [predictions[0].parent / f"{_name(predictions)}.evaluation.json"]
    label_files = [path for path in (labels, validation_labels) if path is not None]
    _check_outputs(output, [path for paths in (predictions, validation, label_files, *ood) for path in paths])
    tested = {path.resolve() for path in predictions}
    for path in validation:
        if path.resolve() in tested:
            raise InputError(
                f"--validation={path} is the test record itself; "
                "expected other data, since a temperature fitted on the test set would flatter it"
            )
    check_posthoc(posthoc)
    if probabilities and logits:
        raise InputError("--logits given with --probabilities; expected one of them")
    for flag, paths, beside in (("labels", predictions, labels), ("validation_labels", validation, validation_labels)):
        if beside is None and any(path.suffix.lower() == ".npy" for path in paths):
            raise InputError(f"{paths[0]} holds logits alone; expected the .npy of its labels [N]: --{flag}=L.npy")

    given: dict[str, Predictions] = {}

    def record(paths: Sequence[Path], labels: Path | None = None, *, like: Predictions | None = None) -> Predictions:
        options: dict[str, Any] = keys | {"probabilities": probabilities, "features": features, "limit": limit}
        options |= {"groups": "groups" in extra, "classes": None if like is None else like.logits.shape[1]}
        members = [load_predictions(path, labels=labels, labelled=like is None, **options) for path in paths]
        given.update(zip(map(str, paths), members, strict=True))
        if len(members) == 1:
            return members[0]
        # Imported here, because it loads the modules of configs, which a single file does not need.
        from mixup_jax.evaluation.ensemble import mean_of_records

        return mean_of_records(members)

    test = record(predictions, labels)
    held_out = record(validation, validation_labels) if validation else None
    foreign = [(_name(paths), record(paths, like=test)) for paths in ood]
    numbers = check_numbers(given, True if probabilities else False if logits else None, FLAGS)
    name, validation_name = _name(predictions), _name(validation)
    document = evaluate_records(
        test,
        validation=held_out,
        ood=_named(foreign),
        test_name=name,
        validation_name=validation_name if validation_name != name else f"{validation_name} (validation)",
        posthoc=posthoc,
        extra=extra,
        features=features,
        near=near,
        all_intervals=all_intervals,
    )
    document["numbers"] = numbers
    for file in output:
        _write(file, render(document, file).encode())
    return Outcome(document, output, [] if validation else [NO_TEMPERATURE])


def evaluate_score_files(
    scores: Path,
    *,
    ood: Sequence[Sequence[Path]] = (),
    output: Sequence[Path] = (),
    figure: Path | None = None,
    all_intervals: bool = False,
    max_gib: float = DEFAULT_LIMIT / GIB,
) -> Outcome:
    """Evaluates files of one number an example and writes the results, with `figure` also their histogram."""
    limit = limit_of(max_gib)
    output = output or [scores.parent / f"{_name([scores])}.evaluation.json"]
    _check_outputs([*output], [scores, *(path for paths in ood for path in paths)])
    for paths in ood:
        if len(paths) > 1:
            raise InputError(f"--ood names {len(paths)} files; expected one: scores have no ensemble")
    if figure is not None and figure.suffix.lower() not in FIGURES:
        raise unknown_name("format of figures", figure.suffix or figure.name, FIGURES)
    test, name = load_scores(scores, limit), _name([scores])
    others = _named([(_name(paths), load_scores(paths[0], limit)) for paths in ood])
    document = evaluate_scores(test, name, others, all_intervals=all_intervals)
    for file in output:
        _write(file, render(document, file).encode())
    if figure is not None:
        _write(figure, _histogram(test, name, others, figure.suffix[1:].lower()))
    return Outcome(document, [*output, *([figure] if figure is not None else [])])


def _histogram(test: Scores, name: str, ood: Mapping[str, Scores], kind: str) -> bytes:
    """Returns a file of the histograms of confidences."""
    if test.confidence is None:
        raise InputError(f"{name} holds scores, of which --figure draws no histogram; expected confidences")
    # Imported here, because matplotlib takes a second to load.
    from mixup_jax.figures.confidence import confidence_histogram

    outside = {other: one.confidence for other, one in ood.items() if one.confidence is not None}
    buffer = io.BytesIO()
    figure = confidence_histogram(test.confidence, outside, in_name=name).get_figure(root=True)
    assert figure is not None  # a new one was made
    figure.savefig(buffer, format=kind, bbox_inches="tight")
    return buffer.getvalue()


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    for output in outputs:
        if output.resolve() in [path.resolve() for path in inputs]:
            raise InputError(f"--output={output} is one of the records to read; expected another file")
        check_suffix(output)
        if output.exists() and not output.is_file():
            raise InputError(f"--output={output} {not_a_file(output)}; expected a file, or a new name for one")


def _name(paths: Sequence[Path]) -> str:
    return one_line("+".join(path.stem for path in paths))


def _named(records: Sequence[tuple[str, Named]]) -> dict[str, Named]:
    """Returns the records by the name of their data set, or else of their file; repeated names get a number."""
    named: dict[str, Named] = {}
    for file, record in records:
        name = base = str((isinstance(record, Predictions) and record.meta.get("dataset")) or file)
        number = 1
        while name in named:
            number += 1
            name = f"{base}-{number}"
        named[name] = record
    return named


def _write(output: Path, content: bytes) -> None:
    try:
        write_atomically(output, content)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, error.strerror, str(output)) from error
        reason = error.strerror or str(error)
        raise InputError(f"{output} cannot be written ({reason}); expected a writable place, see --output") from error


def evaluate_checkpoint(
    workdir: Path,
    *,
    checkpoint: str = "last",
    odin: bool = False,
    features: bool = False,
    mc_dropout: int | None = None,
    batch_norm_examples: int | None = None,
    save_as: Path | None = None,
    cluster: Cluster | None = None,
    **options: Any,
) -> Outcome:
    """Checks the arguments and evaluates a checkpoint of a run; see `evaluation.run.evaluate_workdir`."""
    if checkpoint not in ("last", "best") and not (checkpoint.isascii() and checkpoint.isdigit()):
        raise InputError(f"--checkpoint={checkpoint} is not a checkpoint; expected last, best or a step such as 1200")
    if not workdir.is_dir():
        raise InputError(f"--workdir={workdir} is not a folder; expected the workdir of a finished run")
    asked = {"mc_dropout": mc_dropout, "batch_norm_examples": batch_norm_examples}
    changes = {name: number for name, number in asked.items() if number is not None}
    for name, number in changes.items():
        if number < 1:
            raise InputError(f"--{name}={number}; expected a positive number")
    if save_as is not None and not changes:
        raise InputError("--save_as given without --mc_dropout or --batch_norm_examples, which change predictions")
    if mc_dropout is not None and features:
        raise InputError("--features takes those of one pass; expected it without --mc_dropout, whose passes differ")
    if changes and odin:
        raise InputError("--odin takes gradients of the network as it was trained; expected it without --save_as")
    if cluster is not None and (odin or batch_norm_examples is not None):
        name = "odin" if odin else "batch_norm_examples"
        raise InputError(f"--{name} works in one process only; expected neither --distributed nor --coordinator")

    # Imported here, because jax takes seconds to load and files of predictions do not need it.
    from mixup_jax.devices.processes import joined
    from mixup_jax.evaluation.run import evaluate_workdir
    from mixup_jax.prediction.variants import Derivation

    check_versions()
    keep_freed_memory()
    with joined(cluster):
        options = {"datasets": None, "data_dir": None, "force": False, **options}
        document = evaluate_workdir(
            workdir,
            checkpoint=checkpoint,
            odin=odin,
            features=features,
            derivation=Derivation(**changes),
            save_as=save_as,
            **options,
        )
    return Outcome(document, [(save_as or workdir) / EVALUATION_FILE])


def evaluate_runs(ensemble: Sequence[Path], *, save_as: Path) -> Outcome:
    """Evaluates the mean of the probabilities of several runs; see `ensemble.evaluate_ensemble`."""
    from mixup_jax.evaluation.ensemble import evaluate_ensemble

    return Outcome(evaluate_ensemble(ensemble, save_as), [save_as / EVALUATION_FILE])
