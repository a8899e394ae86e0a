"""Reading run folders, and refusing those whose numbers and records disagree."""

from __future__ import annotations

import glob
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixup_jax.errors import InputError
from mixup_jax.metrics.calibration import Bins, bin_confidences, ece
from mixup_jax.metrics.posthoc import scale
from mixup_jax.metrics.scores import Bools, Floats, confidence_and_correct, max_probability
from mixup_jax.records import UNLABELLED, Predictions, load_predictions

SCHEMA = 1
"""The version of evaluation.json that is understood."""

RESULT_KEYS = (
    *("n", "accuracy", "brier", "ece_15", "ece_100", "oe_15", "oe_100", "mce_15"),
    "confidence_minus_accuracy",
)
"""What the report needs; `nll` is null where it is infinite."""

OOD_KEYS = ("n_in", "n_out", "auroc", "aupr_in", "aupr_out", "fpr95_ood", "fpr95_id", "mean_confidence")

RECORD_TOLERANCE = 1e-9
"""How far the ECE in evaluation.json may be from the one recomputed from the record (float64)."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished and evaluated run.

    Attributes:
      folder: where it was read from.
      config: its full config, nested dicts.
      evaluation: its evaluation.json.
      test_name: the key of its test set in `evaluation["results"]`, such as "fashion_mnist/test".
      test: the record of its test set.
      ood: the records of its out-of-distribution sets, in the order of evaluation.json.
      progress: the lines of metrics.jsonl; empty where there is none.
    """

    folder: Path
    config: dict[str, Any]
    evaluation: dict[str, Any]
    test_name: str
    test: Predictions
    ood: dict[str, Predictions]
    progress: tuple[dict[str, Any], ...]

    @property
    def result(self) -> dict[str, Any]:
        """The numbers of the test set."""
        result: dict[str, Any] = self.evaluation["results"][self.test_name]
        return result

    @property
    def temperature(self) -> float | None:
        """The temperature fitted on held-out data, or None where none was fitted."""
        value = self.result.get("temperature")
        return None if value is None else float(value)

    def setting(self, *path: str, default: Any = None) -> Any:
        """Returns a setting of the config, or `default` where the config has none."""
        return dig(self.config, *path, default=default)

    def bins(self, n_bins: int, temperature: float = 1.0) -> Bins:
        """Returns the calibration bins of the test set, its logits divided by `temperature`."""
        return bin_confidences(*self.outcomes(temperature), n_bins)

    def outcomes(self, temperature: float = 1.0) -> tuple[Floats, Bools]:
        """Returns confidence and correctness of every labelled test example, logits divided by `temperature`."""
        labelled = self.test.labels != UNLABELLED
        return confidence_and_correct(scale(self.test.logits[labelled], temperature), self.test.labels[labelled])


def dig(value: Any, *path: str, default: Any = None) -> Any:
    """Returns `value[path[0]][path[1]]...`, or `default` where a step is missing."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def load_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Reads run folders in the order given.

    Raises:
      InputError: a folder is missing, given twice or not evaluated, a file in it is malformed, or
        its evaluation.json disagrees with its records.
    """
    if not folders:
        raise InputError("no run folder given; expected at least one, such as runs/fashion_mnist-mixup-0")
    seen: dict[Path, str | Path] = {}
    for folder in folders:
        place = Path(folder).resolve()
        if place in seen:
            raise InputError(f"run folder {folder} is given twice (also as {seen[place]}); give each run once")
        seen[place] = folder
    return [load_run(Path(folder)) for folder in folders]


def load_run(folder: Path) -> Run:
    """Reads one run folder; see `load_runs`."""
    if not folder.is_dir():
        raise InputError(f"run folder {folder} does not exist; expected the --workdir of a finished run")
    evaluation_path = folder / "evaluation.json"
    if not evaluation_path.is_file():
        raise InputError(
            f"{evaluation_path} does not exist; write it with: python -m mixup_jax.evaluate --workdir={folder}"
        )
    config, evaluation = _read_object(folder / "config.json"), _read_object(evaluation_path)
    test_name = _checked_evaluation(evaluation_path, evaluation, dig(config, "data", "name"))
    step = evaluation["step"]
    run = Run(
        folder=folder,
        config=config,
        evaluation=evaluation,
        test_name=test_name,
        test=_record(folder, test_name.removesuffix("/test"), "test", step),
        ood={name: _record(folder, name, None, step) for name in evaluation.get("ood", {})},
        progress=_read_progress(folder / "metrics.jsonl"),
    )
    _check_agreement(run)
    return run


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected the folder of a run of mixup_jax.main") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; expected a JSON object")
    return value


def _read_progress(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    progress = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            # A run that was killed may have left half a last line.
            if number == len(lines):
                break
            raise InputError(f"{path}, line {number} is no JSON ({error})") from error
        if isinstance(entry, dict):
            progress.append(entry)
    return tuple(progress)


def _checked_evaluation(path: Path, evaluation: dict[str, Any], data_name: Any) -> str:
    """Returns the key of the test set after checking that everything the report needs is there."""
    if evaluation.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema is {evaluation.get('schema')!r}; expected {SCHEMA}")
    if not isinstance(evaluation.get("step"), int):
        raise InputError(f"{path}: step is {evaluation.get('step')!r}; expected a whole number")
    results = evaluation.get("results")
    if not isinstance(results, dict):
        raise InputError(f"{path}: results is {results!r}; expected an object with one entry a data set")
    tests = [name for name in results if name.endswith("/test")]
    preferred = [name for name in tests if name == f"{data_name}/test"]
    if not tests:
        raise InputError(
            f"{path}: no test set among the results ({', '.join(results) or 'none'}); evaluate with --datasets=test"
        )
    test_name = (preferred or tests)[0]
    _require_numbers(path, f"results[{test_name!r}]", results[test_name], RESULT_KEYS)
    after = results[test_name].get("after_temperature")
    if after is not None:
        _require_numbers(path, f"results[{test_name!r}].after_temperature", after, RESULT_KEYS[1:])
        _require_numbers(path, f"results[{test_name!r}]", results[test_name], ("temperature",))
    ood = evaluation.setdefault("ood", {})
    if not isinstance(ood, dict):
        raise InputError(f"{path}: ood is {ood!r}; expected an object with one entry a data set")
    for name, numbers in ood.items():
        _require_numbers(path, f"ood[{name!r}]", numbers, OOD_KEYS)
    return test_name


def _require_numbers(path: Path, where: str, numbers: Any, keys: Sequence[str]) -> None:
    if not isinstance(numbers, dict):
        raise InputError(f"{path}: {where} is {numbers!r}; expected an object of numbers")
    for key in keys:
        value = numbers.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{path}: {where}.{key} is {value!r}; expected a finite number")


def _record(folder: Path, dataset: str, split: str | None, step: int) -> Predictions:
    """Reads the record of a data set; without a `split`, of its test split or else the only one there is."""
    predictions = folder / "predictions"
    pattern = f"{dataset}-{split}-{step}.npz" if split else f"{dataset}-*-{step}.npz"
    if not _is_plain_name(dataset) or (split and not _is_plain_name(split)):
        raise InputError(f"{folder / 'evaluation.json'}: {dataset!r} cannot be the name of a data set")
    escaped = "*".join(glob.escape(part) for part in pattern.split("*")) if split is None else glob.escape(pattern)
    found = sorted(predictions.glob(escaped))
    tests = [path for path in found if path.name == f"{dataset}-test-{step}.npz"]
    if len(found) == 1 or tests:
        return load_predictions((tests or found)[0])
    if found:
        raise InputError(f"{predictions} has several records of {dataset} at step {step} and none of its test split")
    raise InputError(
        f"{predictions / pattern} does not exist; write it with: python -m mixup_jax.evaluate --workdir={folder}"
    )


def _is_plain_name(name: str) -> bool:
    return bool(name) and not any(mark in name for mark in ("/", "\\", "\0", "*"))


def _check_agreement(run: Run) -> None:
    """Raises InputError unless evaluation.json says what the records say."""
    bins = run.bins(15)
    pairs = [("n", run.result["n"], bins.n), ("ece_15", run.result["ece_15"], ece(bins) if bins.n else math.nan)]
    if run.temperature is not None and run.result.get("after_temperature"):
        pairs.append(
            ("after_temperature.ece_15", run.result["after_temperature"]["ece_15"], ece(run.bins(15, run.temperature)))
        )
    for name, record in run.ood.items():
        written = run.evaluation["ood"][name]
        pairs.append((f"n_out of {name}", written["n_out"], len(record.logits)))
        pairs.append(
            (f"mean_confidence on {name}", written["mean_confidence"], float(max_probability(record.logits).mean()))
        )
    for what, said, computed in pairs:
        if not abs(said - computed) <= RECORD_TOLERANCE:
            raise InputError(
                f"{run.folder / 'evaluation.json'}: {what} is {said}, but its records give {computed}; "
                f"run evaluate again: python -m mixup_jax.evaluate --workdir={run.folder}"
            )
