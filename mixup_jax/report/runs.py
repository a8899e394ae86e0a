"""Reads run folders, and refuses those whose files contradict each other."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mixup_jax.config import Config, from_dict
from mixup_jax.errors import InputError, not_a_file, not_a_folder
from mixup_jax.escapes import is_file_name
from mixup_jax.metrics.binning import Bins, bin_confidences
from mixup_jax.metrics.examined import Examined, examine
from mixup_jax.metrics.softmax import Bools, Floats
from mixup_jax.report.checks import Checks, RecordedSet, check_agreement
from mixup_jax.runs.files import check_values, read_lines, read_object, shown
from mixup_jax.runs.pictures import Pictures, load_pictures
from mixup_jax.runs.records import Predictions, load_record
from mixup_jax.runs.workdir import DERIVED, NOT_PART_OF_THE_RESULT


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished and evaluated run.

    Attributes:
      folder: its folder.
      recorded: the recorded settings of the evaluated run, nested dicts.
      evaluation: its evaluation.json.
      test_name: the key of its test set in `evaluation["results"]`, such as "fashion_mnist/test".
      test: its test set.
      ood: its out-of-distribution sets, in the order of evaluation.json.
      progress: the lines of metrics.jsonl; empty if there is no such file.
      epochs: the labelled validation examples recorded after each epoch (0 is before training); empty if none were.
      pictures: of confident mistakes and foreign inputs; None if none are kept.
    """

    folder: Path
    recorded: dict[str, Any]
    evaluation: dict[str, Any]
    test_name: str
    test: RecordedSet
    ood: dict[str, RecordedSet]
    progress: tuple[dict[str, Any], ...]
    epochs: dict[int, Examined]
    pictures: Pictures | None = None
    _bins: dict[tuple[int, bool], Bins] = field(default_factory=dict)

    @cached_property
    def config(self) -> Config | None:
        """The settings that this version knows; None if data, model or method is not recorded."""
        if not all(isinstance(self.recorded.get(part), Mapping) for part in ("data", "model", "method")):
            return None
        return from_dict({key: value for key, value in self.recorded.items() if value is not None}, unknown="ignore")

    @property
    def seed(self) -> Any:
        """The seed of training, or None if it is not recorded."""
        return self.recorded.get("seed")

    @property
    def notes(self) -> str:
        """The notes of the config for readers of the results."""
        return str(self.recorded.get("notes") or "")

    @property
    def derived(self) -> dict[str, Any]:
        """The way of predicting, such as `{"mc_dropout": 10}`; empty for the usual prediction."""
        found: dict[str, Any] = self.recorded.get(DERIVED) or {}
        return found

    @property
    def kind(self) -> str:
        """The kind of the run in the paper's claims, a key of `methods.method.KINDS`.

        It is the kind of its method, or "other" if no method is recorded or the records are not the usual predictions
        of one network (an ensemble, Monte Carlo dropout).
        """
        return "other" if self.config is None or self.derived else self.config.method.kind

    @property
    def checkpoint(self) -> str | None:
        """Which checkpoint was evaluated, "last" or "best"; None for one named by its step."""
        found = self.evaluation.get("checkpoint")
        return found if found in ("last", "best") else None

    @property
    def result(self) -> dict[str, Any]:
        """The numbers of the test set."""
        result: dict[str, Any] = self.evaluation["results"][self.test_name]
        return result

    @property
    def class_names(self) -> list[str]:
        """The recorded names of the classes; empty if they have none."""
        found = self.test.meta.get("class_names")
        return [str(name) for name in found] if isinstance(found, list) else []

    @property
    def temperature(self) -> float | None:
        """The temperature fitted on validation data, or None if none was fitted."""
        return _temperature(self.result)

    @property
    def name_of_folder(self) -> str:
        """The folder's name as text; bytes that are not valid text are escaped."""
        return Path(os.path.realpath(self.folder)).name.encode(errors="backslashreplace").decode()

    def outcomes(self, *, scaled: bool = False) -> tuple[Floats, Bools]:
        """Returns confidence and correctness of every labelled test example."""
        labelled = self.test.examined(scaled=scaled).only_labelled()
        return labelled.confidence, labelled.correct

    def bins(self, n_bins: int, *, scaled: bool = False) -> Bins:
        """Returns the calibration bins of the test set."""
        if (n_bins, scaled) not in self._bins:
            self._bins[n_bins, scaled] = bin_confidences(*self.outcomes(scaled=scaled), n_bins)
        return self._bins[n_bins, scaled]

    def logged(self, key: str) -> list[tuple[float, float]]:
        """Returns (epoch, value) for every epoch that logged a number under `key`; its last one counts."""
        by_epoch = {
            float(entry["epoch"]): float(entry[key])
            for entry in self.progress
            if _is_number(entry.get("epoch")) and _is_number(entry.get(key))
        }
        return sorted(by_epoch.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _temperature(result: Mapping[str, Any]) -> float | None:
    value = result.get("temperature")
    return None if value is None else float(value)


def dig(value: Any, *path: str) -> Any:
    """Returns `value[path[0]][path[1]]...`, or None if a key is missing."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def load_runs(folders: Sequence[str | Path]) -> list[RunRecord]:
    """Reads run folders in the order given.

    Raises:
      InputError: a folder is missing, given twice or not evaluated, a file in it is malformed, or its
        evaluation.json has another config than its config.json or contradicts its records (see
        `checks.check_agreement`).
    """
    if not folders:
        raise InputError("no run folder given; expected at least one, such as runs/fashion_mnist-mixup-0")
    seen: dict[Path, str | Path] = {}
    for folder in folders:
        place = Path(os.path.realpath(folder))
        if place in seen:
            raise InputError(f"run folder {folder} is given twice (also as {seen[place]}); give each run once")
        seen[place] = folder
    return [load_run(Path(folder)) for folder in folders]


def load_run(folder: Path) -> RunRecord:
    """Reads one run folder; see `load_runs`."""
    if not os.path.isdir(folder):
        raise InputError(f"run folder {folder} {not_a_folder(folder)}; expected the --workdir of a finished run")
    path = folder / "evaluation.json"
    if not path.is_file():
        raise InputError(f"{path} {not_a_file(path)}; write it with: python -m mixup_jax.evaluate --workdir={folder}")
    evaluation = read_object(path)
    test_name = Checks(path).evaluation(evaluation)
    evaluation.setdefault("ood", {})
    _check_same_run(folder, evaluation["config"])
    step, temperature = evaluation["step"], _temperature(evaluation["results"][test_name])
    test_record = _record(folder, test_name.removesuffix("/test"), "test", step)
    ood_records = {name: _record(folder, name, None, step) for name in evaluation["ood"]}
    try:
        test = _examined(test_record, temperature)
        ood = {name: _examined(record, temperature) for name, record in ood_records.items()}
        check_agreement(evaluation, test_name, test, ood)
    except InputError as error:
        raise InputError(f"{path}: {error}; {evaluate_again(folder)}") from error
    named = {test_name.removesuffix("/test"): test, **ood}
    run = RunRecord(
        folder=folder,
        recorded=evaluation["config"],
        evaluation=evaluation,
        test_name=test_name,
        test=test,
        ood=ood,
        progress=read_lines(folder / "metrics.jsonl"),
        epochs=_epochs(folder / "epochs"),
        pictures=load_pictures(folder, step, {name: len(record.labels) for name, record in named.items()}),
    )
    try:
        _ = run.config
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return run


def _examined(record: Predictions, temperature: float | None) -> RecordedSet:
    """Returns the values that the report needs from a record, with and without temperature scaling."""
    trained = examine(record.logits, record.labels)
    scaled = None if temperature is None else examine(record.logits, record.labels, temperature)
    return RecordedSet(record.labels, record.meta, trained, scaled)


def run_of_records(
    name: str, evaluation: dict[str, Any], test: Predictions, ood: Mapping[str, Predictions]
) -> RunRecord:
    """Returns what the report needs of a network of which there are only records.

    `evaluation` is theirs, as in evaluation.json; its first results are those of the test record.
    """
    test_name = next(iter(evaluation["results"]))
    temperature = _temperature(evaluation["results"][test_name])
    return RunRecord(
        folder=Path(name),
        recorded={"experiment": name},
        evaluation=evaluation,
        test_name=test_name,
        test=_examined(test, temperature),
        ood={one: _examined(record, temperature) for one, record in ood.items()},
        progress=(),
        epochs={},
    )


def evaluate_again(folder: Path) -> str:
    """Returns the advice for a folder whose evaluation does not fit its files."""
    return f"evaluate again: python -m mixup_jax.evaluate --workdir={folder} --force"


def _check_same_run(folder: Path, evaluated: Mapping[str, Any]) -> None:
    """Raises InputError if the folder has a config that is not the evaluated one."""
    path = folder / "config.json"
    if not path.exists():
        return
    config = read_object(path)
    for name in dict.fromkeys((*config, *evaluated)):
        if name not in NOT_PART_OF_THE_RESULT and config.get(name) != evaluated.get(name):
            setting, here, there = _first_difference(name, config.get(name), evaluated.get(name))
            raise InputError(
                f"{path}: {setting} is {shown(here)}, but {shown(there)} in evaluation.json, which is of another run; "
                f"{evaluate_again(folder)}"
            )


def _first_difference(name: str, here: Any, there: Any) -> tuple[str, Any, Any]:
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return name, here, there
    parts = dict.fromkeys((*here, *there))
    part = next(part for part in parts if (part in here, here.get(part)) != (part in there, there.get(part)))
    return _first_difference(f"{name}.{part}", here.get(part), there.get(part))


def _record(folder: Path, dataset: str, split: str | None, step: int) -> Predictions:
    """Reads the record of a data set; without a `split`, that of the test split, or else the only one."""
    predictions = folder / "predictions"
    if not is_file_name(dataset):
        raise InputError(
            f"{folder / 'evaluation.json'}: {shown(dataset)} cannot be the name of a data set; expected a part of a "
            "file's name, such as fashion_mnist"
        )
    pattern = f"{dataset}-{split or '*'}-{step}.npz"
    test = predictions / f"{dataset}-test-{step}.npz"
    found = [test] if test.is_file() else []
    if not found and split is None:
        found = sorted(predictions.glob(f"{glob.escape(dataset)}-*-{step}.npz"))
    if not found:
        raise InputError(f"{predictions / pattern} does not exist; {evaluate_again(folder)}")
    if len(found) > 1:
        raise InputError(f"{predictions} has several records of {dataset} at step {step} and none of its test split")
    return _checked_record(found[0])


def _checked_record(path: Path) -> Predictions:
    record = load_record(path)
    try:
        check_values(record.meta, "meta")
    except InputError as error:
        raise InputError(f"predictions file {path}: {error}") from error
    return record


def _epochs(folder: Path) -> dict[int, Examined]:
    """Reads the records of single epochs, which must have the same examples."""
    if not folder.is_dir():
        return {}
    paths = sorted(folder.glob("*.npz"))
    for path in paths:
        if not (path.stem.isascii() and path.stem.isdigit()):
            raise InputError(f"{path}: expected a name made of the number of an epoch, such as 16.npz")
    found = {int(path.stem): _checked_record(path) for path in sorted(paths, key=lambda path: int(path.stem))}
    for path in paths:
        record, first = found[int(path.stem)], next(iter(found.values()))
        if not np.array_equal(record.labels, first.labels):
            raise InputError(f"{path}: its labels are not those of the other epochs; expected the same examples")
        epoch = record.meta.get("epoch", int(path.stem))
        if epoch != int(path.stem):
            raise InputError(f"{path} was recorded after epoch {shown(epoch)}; expected that of its name")
    examined = {epoch: examine(record.logits, record.labels) for epoch, record in found.items()}
    return {epoch: examples.only_labelled() for epoch, examples in examined.items()}
